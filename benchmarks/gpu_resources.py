"""Registers, spills and shared memory of the Triton kernels, compiled without a GPU.

``python benchmarks/gpu_resources.py`` compiles every line for each architecture, one to four
seconds each, and writes ``results/gpu_resources.csv`` row by row. ``--line 0`` or
``--arch 90`` restrict it. It needs the package triton (``pip install 'seqnorm[gpu-tests]'``).

A stack of more than zero bytes means that numbers did not fit into the registers of a thread.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import table
import torch
import triton
from gpu_correct import CELLS, of_rows
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from seqnorm.nn.backends.cpu.call import Call, Inputs
from seqnorm.nn.backends.cpu.plan import make_plan
from seqnorm.nn.backends.triton import passes
from seqnorm.nn.recurrence.presets import preset
from seqnorm.nn.recurrence.step import STEPS

RESULTS = Path(__file__).resolve().parent.parent / "results" / "gpu_resources.csv"
ARCHITECTURES = (80, 90, 100)


class Line(NamedTuple):
    """A kernel: cell, norm, direction of the pass, B sequences, H units, and if in bfloat16."""

    cell: str
    norm: str
    mode: str
    B: int
    H: int
    half: bool


LINES = [
    Line(cell, norm, mode, B, H, half)
    for cell in CELLS
    for norm, shapes in (
        (of_rows(cell), ((16, 64, False), (16, 128, False), (16, 128, True), (16, 256, False))),
        (of_rows(cell), ((16, 768, True), (64, 1024, False))),
        ("batch", ((64, 256, False), (256, 256, False))),
    )
    for B, H, half in shapes
    for mode in ("forward", "backward")
]
COLUMNS = (*Line._fields, "arch", "registers", "stack", "shared", "triton")


def compiled(line: Line, arch: int) -> table.Row:
    """Compile a kernel and return what it needs of each thread and program."""
    steps = 4
    scheme = preset(line.norm, line.cell)
    plan = make_plan(STEPS[line.cell](), scheme, line.H, alone=True)
    wide = len(plan.step.gates) * line.H
    found: dict[str, Any] = dict.fromkeys(Inputs._fields)
    found |= {
        "input": torch.zeros(steps * line.B, wide),
        "weight_hh": torch.zeros(wide, line.H),
        "h_0": torch.zeros(line.B, line.H),
        "c_0": torch.zeros(line.B, line.H) if "c" in plan.step.states else None,
        "bias_1": torch.zeros(wide) if plan.places[1] else None,
    }
    if plan.norm_at(plan.sites[1]).gain is not None:
        found["gain_h"] = torch.ones(plan.sets[-1] * line.H)
    if plan.kinds[2]:
        found |= {"gain_c": torch.ones(line.H), "bias_c": torch.zeros(line.H)}
    inputs = Inputs(**found)
    call = Call(plan, [line.B] * steps, (0.0,) * plan.states, torch.bfloat16 if line.half else None)
    one: passes.Forward | passes.Backward = passes.Forward(call, inputs, keep=True)
    kernels = passes.FORWARD
    if line.mode == "backward":
        assert isinstance(one, passes.Forward)
        assert one.kept is not None
        grads = tuple(one.results[: 1 + plan.states])
        one = passes.Backward(
            call, inputs, one.results, one.kept, grads, (True,) * len(Inputs._fields)
        )
        kernels = passes.BACKWARD
    kernel = kernels[line.cell]
    values = dict(zip(kernel.arg_names, [*one.arguments(), 0, steps, line.H]))
    constants = {name: value for name, value in values.items() if value is None} | one.options
    signature = {
        name: "constexpr" if name in constants else _type(values[name]) for name in kernel.arg_names
    }
    built = triton.compile(
        ASTSource(kernel, signature, constants, _divisible(kernel.arg_names, values, constants)),
        target=GPUTarget("cuda", arch, 32),
        options=one.compiler_options,
    )
    registers, stack = _usage(built.asm["cubin"])
    return {
        "arch": arch,
        "registers": registers,
        "stack": stack,
        "shared": built.metadata.shared,
        "triton": triton.__version__,
    }


def _divisible(
    names: Sequence[str], values: Mapping[str, Any], constants: Mapping[str, Any]
) -> dict[tuple[int], list[list[Any]]]:
    """Return the arguments that a launch finds to be multiples of 16: tensors, and usually H."""
    found: dict[tuple[int], list[list[Any]]] = {}
    for place, name in enumerate(names):
        value = values.get(name)
        tensor = isinstance(value, torch.Tensor)
        if name not in constants and (tensor or (name == "H" and value % 16 == 0)):
            found[(place,)] = [["tt.divisibility", 16]]
    return found


def _type(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return "i32"
    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int64: "i64"}
    return "*" + names[value.dtype]


def _usage(cubin: bytes) -> tuple[int, int]:
    """Return the registers of a thread and the bytes of its stack."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout + done.stderr)
    assert found is not None
    return int(found[1]), int(found[2])


def lines_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of one architecture in Markdown: forward and backward pass."""
    lines = ["| cell | norm | B | H | dtype | registers | stack, bytes | shared memory, bytes |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    chosen = [row for row in rows if row["arch"] == "90"]
    for forward, backward in zip(chosen[::2], chosen[1::2]):
        dtype = "bfloat16" if forward["half"] == "True" else "float32"
        cells = [*(forward[name] for name in ("cell", "norm", "B", "H")), dtype]
        for name in ("registers", "stack", "shared"):
            cells.append(f"{forward[name]}, {backward[name]}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--line", type=int, action="append", help="the number of a line")
    parser.add_argument("--arch", type=int, action="append", choices=ARCHITECTURES)
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="PATH")
    parser.add_argument("--table", action="store_true", help="print the table of the page")
    options = parser.parse_args(argv)
    if options.table:
        print(*lines_of(table.read(options.csv)), sep="\n")
        return
    which = range(len(LINES)) if options.line is None else options.line
    with table.table(options.csv, COLUMNS) as write:
        for number in which:
            for arch in options.arch or ARCHITECTURES:
                row = {**LINES[number]._asdict(), **compiled(LINES[number], arch)}
                write(row)
                print(number, ", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
