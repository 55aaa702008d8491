"""Results of language models, and the table made of them.

``python -m seqnorm.training.language_results results/language.csv`` prints it as Markdown.

Seed 0 tries learning rates: ``RATES`` and, as long as the highest is the best of them, the next
one, about three times higher. The one with the least validation loss is a norm's; what the table
shows are the runs of all other seeds at that rate. Runs belong together whose command lines differ
in rate, seed and what changes no number alone.
"""

from __future__ import annotations

import csv
import math
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from .results import spread

RATES = (0.003, 0.01, 0.03)
HIGHER = (0.1, 0.3, 1.0)
COLUMNS = (
    "corpus",
    "mode",
    "level",
    "cell",
    "norm",
    "lr",
    "seed",
    "val_loss",
    "test_perplexity",
    "test_bits_per_character",
    "epochs",
    "seconds",
    "config",
    "commit",
)
# Options in which the runs of one group differ, or that change no number.
_APART = {
    "--model.lr",
    "--seed_everything",
    "--run.results",
    "--run.folder",
    "--run.name",
    "--trainer.enable_progress_bar",
    "--trainer.enable_model_summary",
}


def setting(command: str) -> tuple[str, ...]:
    """The options of a run, each with its value, by which it belongs to others."""
    options: list[list[str]] = []
    for word in shlex.split(command):
        if word.startswith("--"):
            options.append(word.split("=", 1))
        elif options:
            options[-1].append(word)
    # Of configurations a later one wins; all else may stand in any order.
    options.sort(key=lambda option: [] if option[0] == "--config" else option)
    return tuple(shlex.join(option) for option in options if option[0] not in _APART)


def next_rate(losses: Mapping[float, float]) -> float | None:
    """The learning rate to try next after those in ``losses``, the validation losses so far; None
    if that is enough."""
    for rate in RATES:
        if rate not in losses:
            return rate
    best = best_rate(losses)
    return next((rate for rate in HIGHER if best == max(losses) < rate), None)


def best_rate(losses: Mapping[float, float]) -> float:
    """The learning rate with the least loss; a loss that is no number is the greatest."""
    return min(losses, key=lambda rate: math.inf if math.isnan(losses[rate]) else losses[rate])


def losses_of(rows: Sequence[Mapping[str, str]]) -> dict[float, float]:
    """Validation losses of the rates that seed 0 has tried."""
    return {float(row["lr"]): float(row["val_loss"]) for row in rows if row["seed"] == "0"}


def markdown(path: str | Path) -> str:
    """The table of the results in ``path``: mean and standard deviation over seeds.

    Groups that only their command lines tell apart have these in a column more.

    Raises:
        ValueError: a group of runs is not complete: a rate has not been tried, or no seed but 0
            has run at the best.
    """
    groups: defaultdict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels = tuple(row[name] for name in COLUMNS[:5])
            groups[(*labels, " ".join(setting(row["config"])))].append(row)
    apart = len({group[:-1] for group in groups}) < len(groups)
    columns = [*COLUMNS[:5], "lr", "test perplexity", "bits a character", "runs"]
    columns += ["options"] if apart else []
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for whole, rows in groups.items():
        group, options = (whole, whole[-1:]) if apart else (whole[:-1], ())
        losses = losses_of(rows)
        if (missing := next_rate(losses)) is not None:
            raise ValueError(f"{' '.join(group)}: no run with seed 0 tries lr {missing:g}")
        lr = best_rate(losses)
        final = [row for row in rows if row["seed"] != "0" and float(row["lr"]) == lr]
        if not final:
            raise ValueError(f"{' '.join(group)}: no run with another seed than 0 at lr {lr:g}")
        figures = [
            spread([float(row[name]) for row in final])
            for name in ("test_perplexity", "test_bits_per_character")
        ]
        fields = [*whole[:-1], f"{lr:g}", *figures, str(len(final)), *options]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
