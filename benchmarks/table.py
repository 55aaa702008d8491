"""The rows of the results, their files and their summary.

A ratio is our time (or memory) divided by the baseline's: below 1, ours is better.
"""

from __future__ import annotations

import csv
import datetime
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import geometric_mean
from typing import Protocol

import torch

import seqnorm
from seqnorm.files import commit

WHERE = ("threads", "torch", "machine", "instructions", "load", "date", "commit")
SPEED = (
    *("cell", "norm", "mode", "T", "B", "H", "shape"),
    *("ours_ms", "baseline", "baseline_ms", "ratio", "repeats"),
    *WHERE,
)
MEMORY = ("cell", "norm", "T", "B", "H", "ours_mib", "torch_mib", "ratio", *WHERE)
Row = dict[str, object]


class Writer(Protocol):
    def __call__(self, row: Mapping[str, object]) -> None: ...


@contextmanager
def table(path: Path | None, columns: Iterable[str]) -> Iterator[Writer]:
    """Open a new CSV file, written row by row so that interruptions lose no row, or no file."""
    if path is None:
        yield lambda row: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()

        def write(row: Mapping[str, object]) -> None:
            writer.writerow(row)
            file.flush()

        yield write


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def environment(load: float) -> Row:
    """Return the columns that describe the machine, the versions and the date."""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": machine(),
        "instructions": instructions(),
        "load": f"{load:.2f}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": commit(Path(__file__).parent) or "unknown",
    }


def machine() -> str:
    """Return the name of the processor, if the system knows it."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instructions() -> str:
    """Return the instruction set of our kernels, or "none" without kernels."""
    state, _, text = seqnorm.available_backends()["cpu"].partition(": ")
    return text.partition(",")[0] if state == "active" else "none"


def summary(rows: Iterable[Row]) -> list[str]:
    """Return a line with mean and worst ratio for each shape, cell, norm, mode and baseline."""
    groups: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        baseline = str(row["baseline"]).partition("_")[0]  # the faster of packed and padded
        names = [str(row[name]) for name in ("shape", "cell", "norm", "mode")]
        groups[(*names, baseline)].append(row)
    lines = []
    for (shape, cell, norm, mode, baseline), members in groups.items():
        ratios = [float(str(row["ratio"])) for row in members]
        worst = members[ratios.index(max(ratios))]
        place = " ".join(f"{axis}={worst[axis]}" for axis in "TBH")
        lines.append(
            f"{shape:11} {cell:6} {norm:12} {mode:5} / {baseline:8}: geometric mean "
            f"{geometric_mean(ratios):5.2f}, worst {max(ratios):5.2f} at {place}, "
            f"of {len(ratios)}"
        )
    return lines


def headline(rows: Iterable[Row]) -> str:
    """Return the main result: LayerNorm in training against torch's layers without a norm."""
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        key = (row["shape"], row["norm"], row["mode"], row["baseline"])
        if key == ("grid", "layer", "train", "torch"):
            ratios[str(row["cell"])].append(float(str(row["ratio"])))
    if not ratios:
        return "LayerNorm training over the grid: not measured"
    both = [ratio for values in ratios.values() for ratio in values]
    each = ", ".join(
        f"{cell.upper()} {geometric_mean(values):.3f} of {len(values)}"
        for cell, values in ratios.items()
    )
    cells = " and ".join(cell.upper() for cell in ratios)
    return (
        f"LayerNorm {cells} training over the grid, time / torch without norm, geometric mean: "
        f"{geometric_mean(both):.3f} ({each})"
    )
