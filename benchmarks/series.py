"""Japanese Vowels with LayerNorm, with BatchNorm of every step and without a norm.

``python benchmarks/series.py`` makes the runs that are missing in ``results/series.csv``, by the
rule of ``seqnorm.training.results.series_table``: learning rates with seed 0, chosen by the loss on
a fifth of the training part, then seeds 1 to 5 at the best rate. It can be interrupted and resumed.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from seqnorm.training.results.language_table import make_missing

ROOT = Path(__file__).resolve().parent.parent
MODELS = (("lstm", "layer"), ("gru", "layer"), ("lstm", "batch"), ("lstm", "none"))
SEEDS = ("1", "2", "3", "4", "5")


def rows_of(path: Path, cell: str, norm: str) -> list[dict[str, str]]:
    """Return the rows of a cell with a norm."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row["cell"], row["norm"]) == (cell, norm)]


def options(cell: str, norm: str, rate: float, seed: str, results: Path) -> list[str]:
    """Return the options of ``train.py fit``."""
    return [
        *("--config", "configs/series/japanese_vowels.yaml"),
        *("--model.cell", cell, "--model.norm", "null" if norm == "none" else norm),
        *("--model.lr", f"{rate:g}", "--seed_everything", seed),
        *("--run.results", str(results), "--trainer.enable_progress_bar", "false"),
    ]


def make(results: Path, run: Callable[[list[str]], None]) -> None:
    """Make the missing runs by calls of ``run``.

    Raises:
        RuntimeError: a run has left no row.
    """
    for cell, norm in MODELS:
        read = partial(rows_of, results, cell, norm)
        make_missing(read, partial(options, cell, norm, results=results), run, SEEDS)


def _fit(arguments: list[str]) -> None:
    subprocess.run([sys.executable, ROOT / "train.py", "fit", *arguments], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=Path("results/series.csv"))
    given = parser.parse_args()
    make(given.results, _fit)


if __name__ == "__main__":
    main()
