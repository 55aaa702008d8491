"""Models written in C, and what they compute beside the layers.

Axes: T steps, I = input size, O = size of the output.
"""

from __future__ import annotations

import copy
import ctypes
import shutil
import struct
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import randomise
from hidden_states import parts_of
from torch import Tensor, nn

import seqnorm
import seqnorm.export
from seqnorm.nn.layers.cells import LAYERS

DRIVER = Path(__file__).with_name("c_models.c")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
C99 = ("-std=c99", *STRICT)
Models = Mapping[str, nn.Module]


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


def drawn(cell: str, norm: Any, *sizes: int, **options: Any) -> Any:
    """Return a layer with random parameters and statistics, in inference.

    Large recurrent weights would magnify the rounding of every step in the next ones.
    """
    build: Any = LAYERS[cell]
    layer = build(*sizes or (6, 12), norm=norm, **options)
    with warnings.catch_warnings():
        randomise(layer)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("weight_hh"):
                parameter.mul_(0.4)
    return layer.eval()


def write(folder: Path, models: Models, weights: str = "header") -> Path:
    """Write the header of every model, and a program that runs all of them as ``DRIVER`` says."""
    program = [f"#define APART {int(weights == 'file')}\n"]
    for name, model in models.items():
        seqnorm.export.to_c(model, folder / f"{name}.h", weights=weights)
        macros = {
            "MODEL": name,
            "UPPER": name.upper(),
            "WHOLE": int(getattr(model, "bidirectional", False)),
        }
        program.append(f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n')
        program += [f"#undef {key}\n#define {key} {value}\n" for key, value in macros.items()]
        program.append(f'#include "{DRIVER}"\n')
    calls = "".join(f"    {name}_drive();\n" for name in models)
    path = folder / "program.c"
    path.write_text("".join([*program, f"int main(void) {{\n{calls}    return 0;\n}}\n"]))
    return path


def compiled(source: Path, *options: str, compiler: str = "gcc", target: str = "program") -> Path:
    """Compile a program without a warning and return its path."""
    path = source.with_name(target)
    command = [compiler, *options, str(source), "-o", str(path), "-lm"]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    assert not done.stderr, done.stderr[:4000]
    return path


def run(
    command: Sequence[str | Path], models: Models, inputs: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the output (T, O) and the state of every model, as the program computes them."""
    given = b"".join(
        struct.pack("=q", len(inputs[name])) + as_bytes(inputs[name]) for name in models
    )
    folder = Path(command[-1]).parent
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    found, place = {}, 0
    for name in models:
        steps, size, states, equal = struct.unpack_from("=4q", done.stdout, place)
        assert equal, f"{name}: calls in another order give other numbers"
        count = steps * size + states
        numbers = torch.tensor(struct.unpack_from(f"={count}f", done.stdout, place + 32))
        place += 32 + 4 * count
        found[name] = numbers[: steps * size].view(steps, size), numbers[steps * size :]
    assert place == len(done.stdout)
    return found


def expected(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output (T, O) and the state of a layer or a cell by the definition in float64."""
    exact = copy.deepcopy(module).double()
    with seqnorm.use_backend("reference"), torch.no_grad():
        if isinstance(module, seqnorm.RecurrentLayer):
            output, state = exact(x.double())
            parts = parts_of(state)
        else:
            state, outputs = None, []
            for t, row in enumerate(x.double()):
                state = exact(row, state, t)
                outputs.append(parts_of(state)[0])
            output, parts = torch.stack(outputs), tuple(part[None] for part in parts_of(state))
    return output, torch.cat([part[k] for k in range(len(parts[0])) for part in parts])


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    assert found.shape == wanted.shape
    assert bool(found.isfinite().all())
    return float((found.double() - wanted.double()).abs().max() / wanted.abs().max())


def largest(found: Mapping[str, tuple[Tensor, Tensor]], wanted: Any) -> tuple[float, str]:
    """Return the largest difference of an output or a state, and the name of its model."""
    return max(
        (distance(part, other), name)
        for name in found
        for part, other in zip(found[name], wanted[name])
    )


class Loaded:
    """One model as a shared library: ``step`` and ``run`` return the status and the output."""

    def __init__(self, folder: Path, module: Any) -> None:
        seqnorm.export.to_c(module, folder / "model.h")
        source = folder / "library.c"
        source.write_text('#define MODEL_IMPLEMENTATION\n#include "model.h"\n')
        path = compiled(source, *C99, "-O1", "-shared", "-fPIC", target="library.so")
        self._library = ctypes.CDLL(str(path))
        self._library.model_create.restype = ctypes.c_void_p
        self._model = ctypes.c_void_p(self._library.model_create())
        self._size = module.proj_size or module.hidden_size

    def run(self, x: Tensor) -> tuple[int, Tensor]:
        """Compute the outputs (T, O) of the next steps (T, I)."""
        y = torch.full((len(x), self._size), float("nan"))
        rows, pointers = x.contiguous(), ctypes.c_void_p
        steps = ctypes.c_long(len(x))
        status = self._library.model_run(
            self._model, steps, pointers(rows.data_ptr()), pointers(y.data_ptr())
        )
        return status, y

    def step(self, x: Tensor) -> tuple[int, Tensor]:
        """Compute the output (O,) of the next step (I,)."""
        y, row = torch.full((self._size,), float("nan")), x.contiguous()
        given = ctypes.c_void_p(row.data_ptr()), ctypes.c_void_p(y.data_ptr())
        return self._library.model_step(self._model, *given), y

    def reset(self) -> None:
        """Begin a new sequence."""
        self._library.model_reset(self._model)


def as_bytes(x: Tensor) -> bytes:
    """Return float32 numbers as a program reads them."""
    numbers = x.reshape(-1).tolist()
    return struct.pack(f"={len(numbers)}f", *numbers)
