"""Launches and memory traffic of the Triton kernels, computed and not measured.

``python benchmarks/gpu_estimate.py`` writes ``results/gpu_estimate.csv``: for each shape the number
of launches of the recurrence of one layer, the bytes that a step reads and writes, and the
shortest time of a step on an H100 if every byte came from its memory (3.35 TB/s) or if its
arithmetic units (67 TFLOP/s in float32, 989 in bfloat16) had nothing to wait for. Its cache of
about 50 MB is faster than its memory and holds W_hh and the states, which every step reads again.
The bytes of one step alone (``streamed``) have to pass the memory whatever the cache holds, unless
the tensors of all steps fit there. The time of these or that of the arithmetic, whichever is
longer, is the least that a step can take, without any time for launches. The
products and norms of the input, before the recurrence, are the same for every backend and do not
count.

Axes: T steps, B sequences, H units, G gates.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import table

from seqnorm.nn.backends.triton.layout import MOST_UNITS, ROWS

RESULTS = Path(__file__).resolve().parent.parent / "results" / "gpu_estimate.csv"
COLUMNS = (
    *("cell", "norm", "mode", "T", "B", "H", "precision", "launches", "launches_per_step"),
    *("bytes_per_step", "flops_per_step", "us_per_step_of_memory", "us_per_step_of_arithmetic"),
    *("read_per_step", "written_per_step", "streamed_per_step", "us_per_step_at_least"),
)
GATES = {"LSTM": 4, "GRU": 3}
BANDWIDTH = 3.35e12
PEAK = {"float32": 67e12, "bfloat16": 989e12}
SIZES = {"float32": 4, "bfloat16": 2}
SHAPES = ((1024, 16, 768), (256, 64, 128), (256, 64, 256), (256, 16, 64), (64, 256, 1024))


class Shape(NamedTuple):
    """A layer in one direction and its batch."""

    cell: str
    norm: str
    mode: str
    T: int
    B: int
    H: int
    precision: str

    @property
    def loops(self) -> bool:
        """True if a program computes all steps of its rows."""
        statistics = self.norm == "batch" and self.mode == "train"  # else they are in a table
        return not statistics and self.H <= MOST_UNITS


def launches(shape: Shape) -> int:
    """Return the kernels and products of a recurrence, with its backward pass in training.

    The product for the gradient of W_hh, which is one for all steps, counts.
    """
    forward = 1 if shape.loops else 2 * shape.T
    return forward if shape.mode == "infer" else 2 * forward + 1


class Traffic(NamedTuple):
    """Bytes of a step, with its backward pass in training.

    Attributes:
        read, written: all of them.
        streamed: those of tensors of all steps, each of them once in each pass.
    """

    read: int
    written: int
    streamed: int

    @property
    def total(self) -> int:
        return self.read + self.written


def traffic(shape: Shape) -> Traffic:
    """Return the bytes that a step reads and writes, with its backward pass in training."""
    B, H, G = shape.B, shape.H, GATES[shape.cell]
    own = SIZES[shape.precision]  # of weights and of operands of products
    state = 4 * B * H
    cell = state if shape.cell == "LSTM" else 0
    gates = B * G * H
    operand = own * B * H
    weight = (-(-B // ROWS) if shape.loops else 1) * own * G * H * H
    keeps = shape.mode == "train"
    kept = gates * (4 if shape.loops else own)  # W_hh h
    # The terms of the input, h and c; and W_hh and h, which a program reads once for each gate.
    read = 4 * gates + state + cell + weight + operand * (G if shape.loops else 1)
    # h, c and the output, and h in half precision.
    written = 2 * state + cell + (operand if own < 4 else 0)
    streamed = 4 * gates + state
    if not shape.loops:  # the product, between two launches
        read, written = read + kept, written + kept
    if not keeps:
        return Traffic(read, written, streamed)
    written += cell + (kept if shape.loops else 0)
    streamed += cell + kept
    before = cell or state  # c before the step in an LSTM, h in a GRU
    # The term, the product, W_hh; the gradients of the output and the states; h or c before.
    read += 4 * gates + kept + weight + 2 * state + cell + before
    # The gradients of both terms, of which the last is read again by two products, and of states.
    written += 4 * gates + own * gates + state + cell
    read += 2 * own * gates + operand  # h, for that of W_hh
    if not shape.loops:  # the gradient of h, between two launches
        read, written = read + operand, written + operand
    # Copies for all steps: the gradient of the output, h before each step, and that in own dtype.
    read += 2 * state + (state if own < 4 else 0)
    written += 2 * state + (operand if own < 4 else 0)
    streamed += 8 * gates + kept + state + before + 2 * own * gates + operand
    return Traffic(read, written, streamed)


def flops(shape: Shape) -> int:
    """Return the operations of the products of a step: one forward, and two backward."""
    each = 2 * shape.B * GATES[shape.cell] * shape.H * shape.H
    return each if shape.mode == "infer" else 3 * each


def rows() -> list[table.Row]:
    """Return the row of every shape."""
    shapes = [
        Shape(cell, norm, mode, *sizes, precision)
        for sizes in SHAPES
        for cell in GATES
        for norm in ("layer", "batch")
        for mode in ("train", "infer")
        for precision in SIZES
    ]
    return [row_of(shape) for shape in shapes]


def row_of(shape: Shape) -> table.Row:
    found = traffic(shape)
    arithmetic = 1e6 * flops(shape) / PEAK[shape.precision]
    return {
        **shape._asdict(),
        "launches": launches(shape),
        "launches_per_step": f"{launches(shape) / shape.T:.4f}",
        "bytes_per_step": found.total,
        "flops_per_step": flops(shape),
        "us_per_step_of_memory": f"{1e6 * found.total / BANDWIDTH:.3f}",
        "us_per_step_of_arithmetic": f"{arithmetic:.3f}",
        "read_per_step": found.read,
        "written_per_step": found.written,
        "streamed_per_step": found.streamed,
        "us_per_step_at_least": f"{max(arithmetic, 1e6 * found.streamed / BANDWIDTH):.3f}",
    }


def lines_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of LayerNorm in training in Markdown."""
    lines = [
        "| cell | T | B | H | dtype | launches | MB a step | of memory, µs | of arithmetic, µs |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        if (row["norm"], row["mode"]) == ("layer", "train"):
            cells = [row[name] for name in ("cell", "T", "B", "H", "precision", "launches")]
            cells.append(f"{int(row['bytes_per_step']) / 1e6:.2f}")
            cells += [row["us_per_step_of_memory"], row["us_per_step_of_arithmetic"]]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="PATH")
    parser.add_argument("--table", action="store_true", help="print the table of the page")
    options = parser.parse_args(argv)
    if options.table:
        print(*lines_of(table.read(options.csv)), sep="\n")
        return
    with table.table(options.csv, COLUMNS) as write:
        for row in rows():
            write(row)
            print(", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
