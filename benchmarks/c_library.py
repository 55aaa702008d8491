"""Time of one step of a layer that was written in C, beside the layer itself and torch's.

Each line takes I = H inputs and one sequence. The C library is compiled by gcc -O3, and once more
for the processor at hand, and called for many steps at once. The layers in Python are called for
one step, from the state before. The calls alternate in one process. Times are those of the thread
on its processor, which other programs lengthen less, and medians of several fresh processes. The
differences of the C library and of the layer in Python are those from the layer in float64 over the
first steps, relative to its largest output.

``python benchmarks/c_library.py`` takes about a minute and needs gcc.
"""

from __future__ import annotations

import copy
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import processes
import table
import timing
import torch
from torch import Tensor, nn

import seqnorm
import seqnorm.export

RESULTS = Path(__file__).resolve().parent.parent / "results" / "c_library.csv"
STEPS, CALLS, COMPARED = 200, 20, 50
LINES = [(cell, H) for cell in ("LSTM", "GRU") for H in (64, 256)]
BUILDS = {"c": ["-O3"], "native": ["-O3", "-march=native"]}
TIMES = (*BUILDS, "layer", "torch")
SIZES = ("code", "weight", "memory")
COLUMNS = ("cell", "H", *(f"{name}_us" for name in TIMES), "difference", "layer_difference")
COLUMNS += ("code_bytes", "weight_bytes", "memory_bytes", "compiler", *table.WHERE)
SOURCE = """
#define MODEL_NO_MALLOC
#define MODEL_IMPLEMENTATION
#include "model.h"
size_t model_bytes(void);
size_t model_bytes(void) { return sizeof(model); }
"""


def layers(cell: str, H: int) -> tuple[Any, nn.Module]:
    """Return a LayerNorm layer of ours, and torch's without a norm."""
    torch.manual_seed(0)
    ours = getattr(seqnorm, cell)(H, H, norm="layer").eval()
    return ours, getattr(nn, cell)(H, H).eval()


def built(layer: nn.Module, folder: Path, options: Sequence[str]) -> ctypes.CDLL:
    """Compile the layer and return the loaded library."""
    seqnorm.export.to_c(layer, folder / "model.h")
    (folder / "model.c").write_text(SOURCE)
    command = ["gcc", *options, "-shared", "-fPIC", "model.c", "-o", "model.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "model.so"))


def sizes(layer: nn.Module, folder: Path) -> tuple[int, int]:
    """Return the bytes of the code, compiled with weights apart, and of the weights."""
    _, weights = seqnorm.export.to_c(layer, folder / "model.h", weights="file")
    (folder / "code.c").write_text(SOURCE.replace("size_t model_bytes", "//"))
    subprocess.run(["gcc", "-O3", "-c", "code.c"], cwd=folder, check=True)
    command = ["size", "code.o"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    text, data, bss = done.stdout.splitlines()[1].split()[:3]
    return int(text) + int(data) + int(bss), weights.stat().st_size


def runs(library: ctypes.CDLL, x: Tensor) -> tuple[Callable[[], object], Tensor]:
    """Return a call that computes x (T, 1, I), and the memory of its output (T, H)."""
    library.model_bytes.restype = ctypes.c_size_t
    model = ctypes.create_string_buffer(library.model_bytes())
    library.model_init(model)
    y = torch.empty(x.shape[0], x.shape[2])
    steps = ctypes.c_long(len(x))

    def run() -> None:
        pointers = ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr())
        library.model_run(model, steps, *pointers)

    return run, y


def measured(cell: str, H: int, budget: float) -> dict[str, float]:
    """Return the microseconds of a step, sizes in bytes, and the largest difference."""
    ours, theirs = layers(cell, H)
    x = torch.randn(STEPS, 1, H)
    state = tuple(torch.randn(1, 1, H) for _ in ours.step.states)
    hx = state[0] if len(state) == 1 else state
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {}
        exact = copy.deepcopy(ours).double()(x[:COMPARED].double())[0]

        def difference(found: Tensor) -> float:
            return float((found - exact).abs().max() / exact.abs().max())

        found["layer_difference"] = difference(ours(x[:COMPARED])[0])
        for name, options in BUILDS.items():
            folder = Path(place, name)
            folder.mkdir()
            library = built(ours, folder, options)
            calls[name], y = runs(library, x)
            calls[name]()
            distance = difference(y[:COMPARED, None])
            found["difference"] = max(distance, found.get("difference", 0.0))
        found["memory_bytes"] = library.model_bytes()
        found["code_bytes"], found["weight_bytes"] = sizes(ours, folder)
        one = x[:1]
        calls["layer"] = lambda: [ours(one, hx) for _ in range(CALLS)]
        calls["torch"] = lambda: [theirs(one, hx) for _ in range(CALLS)]
        times, _ = timing.interleaved(calls, budget, warmup=5, clock=time.thread_time)
    for name in TIMES:
        found[f"{name}_us"] = times[name] * 1e6 / (STEPS if name in BUILDS else CALLS)
    return found


def rows(found: Sequence[Sequence[dict[str, float]]]) -> list[table.Row]:
    """Return the rows of the table from what the processes have measured."""
    return processes.medians(("cell", "H"), LINES, found)


def tables(path: Path) -> tuple[str, str]:
    """Return the table of times, with the machine, and the table of sizes and differences."""
    found = table.read(path)
    names = [f"{row['cell']}, H = {row['H']}" for row in found]
    times = [[row[f"{name}_us"] for name in TIMES] for row in found]
    heads = ("C, -O3", "C, -O3 -march=native", "layer in Python", "torch, no norm")
    machine = f"{found[0]['machine']}, {found[0]['compiler']}, torch {found[0]['torch']}"
    load = f"at a load of {found[0]['load']} by other programs"
    first = f"{_table(heads, names, times)}\n\nMeasured in processor time on {machine}, {load}."
    sizes = [
        [
            *(f"{float(row[f'{what}_bytes']) / 1024:.1f} KiB" for what in SIZES),
            *(row[f"{whose}difference"] for whose in ("", "layer_")),
        ]
        for row in found
    ]
    heads = ("code", "weights", "memory", "difference, C", "difference, Python")
    return first, _table(heads, names, sizes)


def _table(heads: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [["", *heads], ["---"] * (1 + len(heads))]
    lines += [[name, *row] for name, row in zip(names, cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compiler() -> table.Row:
    """Return the version of the compiler as a column."""
    command = ["gcc", "-dumpfullversion"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"compiler": f"gcc {done.stdout.strip()}"}


def main(argv: Sequence[str] | None = None) -> None:
    processes.Program(
        file=__file__,
        title=__doc__.partition("\n")[0],
        results=RESULTS,
        columns=COLUMNS,
        processes=5,
        budget=2.0,
        measured=lambda budget: [measured(*line, budget) for line in LINES],
        rows=rows,
        markdown=lambda path: "\n\n".join(tables(path)),
        also=compiler,
    ).main(argv)


if __name__ == "__main__":
    main()
