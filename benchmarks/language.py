"""Language models with LayerNorm, with BatchNorm of every step and without a norm, at equal budget.

``python benchmarks/language.py mr_stream mr_documents`` makes the runs of these configurations that
are missing in ``results/language.csv``, by the rule of ``seqnorm.training.results.language_table``:
learning rates with seed 0, then seeds 1 to 3 at the best rate. It can be interrupted and resumed.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from seqnorm.training.results.language_table import make_missing, setting

ROOT = Path(__file__).resolve().parent.parent
NORMS = ("layer", "batch", "none")
SEEDS = ("1", "2", "3")


def rows_of(path: Path, config: str, norm: str) -> list[dict[str, str]]:
    """Return the rows that this program's commands made for a configuration with a norm."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = setting(shlex.join(options(config, norm, 0.0, "0", path)))
    return [row for row in rows if setting(row["config"]) == wanted]


def options(config: str, norm: str, rate: float, seed: str, results: Path) -> list[str]:
    """Return the options of ``train.py fit``."""
    return [
        *("--config", f"configs/language/{config}.yaml"),
        *("--model.norm", "null" if norm == "none" else norm),
        *("--model.lr", f"{rate:g}", "--seed_everything", seed),
        *("--run.results", str(results), "--trainer.enable_progress_bar", "false"),
    ]


def make(configs: list[str], results: Path, run: Callable[[list[str]], None]) -> None:
    """Make the missing runs by calls of ``run``.

    Raises:
        RuntimeError: a run has left no row.
    """
    for config in configs:
        for norm in NORMS:
            read = partial(rows_of, results, config, norm)
            make_missing(read, partial(options, config, norm, results=results), run, SEEDS)


def _fit(arguments: list[str]) -> None:
    subprocess.run([sys.executable, ROOT / "train.py", "fit", *arguments], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("configs", nargs="+", help="files of configs/language, without .yaml")
    parser.add_argument("--results", type=Path, default=Path("results/language.csv"))
    given = parser.parse_args()
    make(given.configs, given.results, _fit)


if __name__ == "__main__":
    main()
