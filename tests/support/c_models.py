"""Programs in C of many written models, and what they compute beside the layers.

Axes: T steps, I = input size, O = size of the output.
"""

from __future__ import annotations

import copy
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recorded_calls import COMPILER, EMULATOR, LIBRARIES
from torch import Tensor, nn

import seqnorm
from seqnorm.export import to_c

TESTS = Path(__file__).resolve().parent
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
STEPS = 50


def why_not(*programs: str) -> str:
    """Return why C cannot be compiled here; "" if it can."""
    missing = [program for program in programs or ("gcc",) if shutil.which(program) is None]
    return f"needs {' and '.join(missing)}" if missing else ""


def write(folder: Path, models: Mapping[str, nn.Module], weights: str = "header") -> Path:
    """Write the header of every model and a program that runs all of them.

    It reads T and the input (T, I) for each model, and writes the output (T, O), the state, and 1
    for each way of computing that gave the same.
    """
    driver = (TESTS / "c_models.c").read_text(encoding="utf-8")
    parts, names = [], list(models)
    for name, model in models.items():
        to_c(model, folder / f"{name}.h", weights=weights)
        whole = bool(getattr(model, "bidirectional", False))
        parts.append(f"#define {name.upper()}_IMPLEMENTATION\n#include \"{name}.h\"\n")
        parts.append(f"#undef WHOLE\n#define WHOLE {int(whole)}\n#undef APART\n")
        parts.append(f"#define APART {int(weights == 'file')}\n")
        parts.append(f"#undef MODEL\n#define MODEL {name}\n#undef UPPER\n#define UPPER {name.upper()}\n")
        parts.append('#include "drive.h"\n')
    calls = "".join(f"    {name}_drive();\n" for name in names)
    parts.append(f"int main(void) {{\n{calls}    return 0;\n}}\n")
    (folder / "drive.h").write_text(driver)
    program = folder / "program.c"
    program.write_text("".join(parts))
    return program


def compiled(program: Path, *options: str, compiler: str = "gcc") -> Path:
    """Return the program, compiled without a warning."""
    target = program.with_suffix("")
    command = [compiler, *options, str(program), "-o", str(target), "-lm"]
    done = subprocess.run(command, cwd=program.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    assert not done.stderr, done.stderr[:4000]
    return target


def run(
    command: Sequence[str | Path], models: Mapping[str, nn.Module], inputs: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the output (T, O) and the state of every model, as the program computes them."""
    given = b"".join(
        struct.pack("=q", len(inputs[name])) + _bytes(inputs[name]) for name in models
    )
    done = subprocess.run(
        list(map(str, command)), input=given, capture_output=True, cwd=Path(command[-1]).parent
    )
    assert done.returncode == 0, done.stderr.decode()[:4000]
    found, place = {}, 0
    for name in models:
        steps, outputs, states, equal = struct.unpack_from("=4q", done.stdout, place)
        assert equal, f"{name}: another order of calls gives other numbers"
        numbers = torch.frombuffer(
            bytearray(done.stdout), dtype=torch.float32, offset=place + 32,
            count=steps * outputs + states,
        )
        place += 32 + 4 * len(numbers)
        found[name] = numbers[: steps * outputs].view(steps, outputs), numbers[steps * outputs :]
    assert place == len(done.stdout)
    return found


def on_arm(program: Path) -> list[str | Path]:
    """Return the command that runs a program for ARM."""
    return [EMULATOR, "-L", LIBRARIES, program]


def expected(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output (T, O) and the state of a layer or cell by the definition in float64."""
    exact = copy.deepcopy(layer).double()
    with seqnorm.use_backend("reference"), torch.no_grad():
        if isinstance(layer, seqnorm.RecurrentLayer):
            output, state = exact(x.double())
            parts = state if isinstance(state, tuple) else (state,)
        else:
            output, parts = _of_cell(exact, x.double())
    flat = [part[k].reshape(-1) for k in range(len(parts[0])) for part in parts]
    return output, torch.cat(flat)


def _of_cell(cell: Any, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    state, outputs = None, []
    for t, row in enumerate(x):
        state = cell(row, state, t)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    assert state is not None
    parts = state if isinstance(state, tuple) else (state,)
    return torch.stack(outputs), tuple(part[None] for part in parts)


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    assert found.shape == wanted.shape
    assert bool(found.isfinite().all())
    return float((found.double() - wanted.double()).abs().max() / wanted.abs().max())


def _bytes(x: Tensor) -> bytes:
    numbers = x.reshape(-1).tolist()
    return struct.pack(f"={len(numbers)}f", *numbers)
