"""The rows of the results, their files and their summary.

A ratio is our time (or memory) divided by the baseline's: below 1 ours is the better one.
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
    """A new CSV file, written row by row, so that an interruption loses nothing; or none."""
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
    """The rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def environment(load: float) -> Row:
    """What every row says of where it was measured."""
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
    """The processor's own name, where the system tells it."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def instructions() -> str:
    """The instruction set of our kernels, or "none" where there are no kernels."""
    state, _, text = seqnorm.available_backends()["cpu"].partition(": ")
    return text.partition(",")[0] if state == "active" else "none"


def summary(rows: Iterable[Row]) -> list[str]:
    """Geometric mean and worst ratio, a line for each kind of shape, cell, norm, mode, baseline."""
    groups: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        baseline = str(row["baseline"]).partition("_")[0]  # packed or padded, the faster of both
        names = [str(row[name]) for name in ("shape", "cell", "norm", "mode")]
        groups[(*names, baseline)].append(row)
    lines = []
    for (shape, cell, norm, mode, baseline), members in groups.items():
        ratios = [float(str(row["ratio"])) for row in members]
        worst = members[ratios.index(max(ratios))]
        place = " ".join(f"{axis}={worst[axis]}" for axis in "TBH")
        lines.append(
            f"{shape:11} {cell:4} {norm:12} {mode:5} / {baseline:8}: geometric mean "
            f"{geometric_mean(ratios):5.2f}, worst {max(ratios):5.2f} at {place}, "
            f"of {len(ratios)}"
        )
    return lines


def headline(rows: Iterable[Row]) -> str:
    """The one number: LayerNorm in training against torch's layers without a norm."""
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
