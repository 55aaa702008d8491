"""Time of one step, and of a few, beside torch's layers and cells without a norm.

Streams, agents and controllers call a layer for one step at a time. Each line times ours and
torch's alternately in one process, in ``torch.inference_mode`` and with the state of the step
before. It is the median of several fresh processes, because the place of a process in memory
changes a call of some microseconds. Ratios are ours / torch's: below 1, ours is faster.

``python benchmarks/one_step.py`` takes about four minutes; ``--quick`` half a minute.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import geometric_mean, median
from typing import NamedTuple

import processes
import table
import timing
import torch
from torch import nn

import seqnorm

RESULTS = Path(__file__).resolve().parent.parent / "results" / "one_step.csv"
CELLS = ("LSTM", "GRU")
NORMS = ("layer", "rms", "batch")
SIZES = (64, 128, 256, 512)
# Steps and sequences. Cells have one step.
SHAPES = ((1, 1), (1, 4), (1, 16), (1, 32), (4, 1), (8, 1))
# Rows of the table on the page: a layer or a cell, the norm, T and B.
PAGE = (
    ("LayerNorm layer, one step", "layer", "layer", 1, 1),
    ("LayerNorm cell", "cell", "layer", 1, 1),
    ("LayerNorm layer, one step of 16 sequences", "layer", "layer", 1, 16),
    ("LayerNorm cell, 16 sequences", "cell", "layer", 1, 16),
    ("LayerNorm layer, 8 steps", "layer", "layer", 8, 1),
    ("BatchNorm of every step, layer, one step", "layer", "batch", 1, 1),
    ("BatchNorm of every step, cell", "cell", "batch", 1, 1),
)
COLUMNS = (
    *("cell", "kind", "norm", "T", "B", "H", "ours_us", "torch_us", "ratio", "least", "most"),
    *table.WHERE,
)


class Line(NamedTuple):
    """A line of the table: a layer or a single cell of H inputs and units, on (T, B, H)."""

    cell: str
    kind: str
    norm: str
    T: int
    B: int
    H: int


def lines(quick: bool) -> Iterator[Line]:
    """Yield all lines, or a part of them."""
    norms = NORMS[:1] if quick else NORMS
    shapes = SHAPES[:1] if quick else SHAPES
    for cell, kind, norm in itertools.product(CELLS, ("layer", "cell"), norms):
        for (T, B), H in itertools.product(shapes, SIZES):
            if kind == "layer" or T == 1:
                yield Line(cell, kind, norm, T, B, H)


def calls(line: Line) -> dict[str, Callable[[], object]]:
    """Return a call of ours and one of torch's."""
    of_cell = "Cell" if line.kind == "cell" else ""
    torch.manual_seed(0)
    ours = getattr(seqnorm, line.cell + of_cell)(line.H, line.H, norm=line.norm)
    theirs = getattr(nn, line.cell + of_cell)(line.H, line.H).eval()
    x = torch.randn(line.T, line.B, line.H)
    parts = [torch.randn(1, line.B, line.H) for _ in ours.step.states]
    options = {}
    if line.norm == "batch":  # give its tables statistics of these steps
        layer = getattr(seqnorm, line.cell)(line.H, line.H, norm="batch")
        layer(torch.randn(line.T, 16, line.H))
        names = {name.replace("_l0", ""): value for name, value in layer.state_dict().items()}
        ours.load_state_dict(names if of_cell else layer.state_dict())
        options = {"first_step": 0}
    ours.eval()
    if of_cell:
        x, parts = x[0], [part[0] for part in parts]
    state = parts[0] if len(parts) == 1 else tuple(parts)
    return {"ours": lambda: ours(x, state, **options), "torch": lambda: theirs(x, state)}


def measured(which: Iterable[Line], budget: float) -> Iterator[tuple[float, float]]:
    """Yield the median microseconds of ours and of torch's for each line."""
    for line in which:
        runs = calls(line)  # outside of inference mode, as models are loaded
        with torch.inference_mode():
            found, _ = timing.interleaved(runs, budget, warmup=10)
        yield found["ours"] * 1e6, found["torch"] * 1e6


def rows(which: Sequence[Line], times: Sequence[Sequence[tuple[float, float]]]) -> list[table.Row]:
    """Return the rows of the table.

    Args:
        which: The lines.
        times: The times of each line in each process.
    """
    found: list[table.Row] = []
    for line, each in zip(which, zip(*times)):
        ratios = [ours / theirs for ours, theirs in each]
        row: table.Row = dict(line._asdict())
        row |= {
            "ours_us": f"{median(ours for ours, _ in each):.2f}",
            "torch_us": f"{median(theirs for _, theirs in each):.2f}",
            "ratio": f"{median(ratios):.3f}",
            "least": f"{min(ratios):.3f}",
            "most": f"{max(ratios):.3f}",
        }
        found.append(row)
    return found


def summary(found: Iterable[table.Row]) -> list[str]:
    """Return the geometric mean and the worst ratio over H."""
    groups: defaultdict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in found:
        key = tuple(row[name] for name in ("cell", "kind", "norm", "T", "B"))
        groups[key].append(float(str(row["ratio"])))
    return [
        f"{cell:4} {kind:5} {norm:5} T={T} B={B:<2}: geometric mean {geometric_mean(ratios):.2f}, "
        f"worst {max(ratios):.2f}, of {len(ratios)}"
        for (cell, kind, norm, T, B), ratios in groups.items()
    ]


def markdown(path: Path) -> str:
    """Return the table of the page: geometric means over H of ratios in the file."""
    found = table.read(path)
    lines = ["| | " + " | ".join(CELLS) + " |", "|---" * (1 + len(CELLS)) + "|"]
    for text, kind, norm, T, B in PAGE:
        wanted = {"kind": kind, "norm": norm, "T": str(T), "B": str(B)}
        means = []
        for cell in CELLS:
            each = [
                float(row["ratio"])
                for row in found
                if all(row[name] == value for name, value in {**wanted, "cell": cell}.items())
            ]
            means.append(f"{geometric_mean(each):.2f}")
        lines.append(f"| {text} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    load = timing.load_average()
    parser = processes.parser(__doc__.partition("\n")[0], 5, 0.2, None)
    parser.add_argument("--quick", action="store_true", help="LayerNorm, one step of a sequence")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    options = parser.parse_args(argv)
    if options.table:
        print(markdown(options.csv or RESULTS))
        return
    torch.set_num_threads(options.threads)
    which = list(lines(options.quick))
    if options.one:
        print(json.dumps(list(measured(which, options.budget))))
        return
    where = table.environment(load)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    warning = timing.busy(load)
    if warning:
        print(warning)
    given = sys.argv[1:] if argv is None else list(argv)
    times = processes.fresh(__file__, given, options.processes)
    found = [row | where for row in rows(which, times)]
    path = options.csv or (None if options.quick else RESULTS)
    with table.table(path, COLUMNS) as write:
        for row in found:
            write(row)
    for row in found:
        names = f"{row['cell']:4} {row['kind']:5} {row['norm']:5} T={row['T']} B={row['B']:<2}"
        times_of = f"ours {row['ours_us']:>8} us, torch {row['torch_us']:>8} us"
        print(f"{names} H={row['H']:<3} {times_of}, ratio {row['ratio']}")
    print(*summary(found), sep="\n")


if __name__ == "__main__":
    main()
