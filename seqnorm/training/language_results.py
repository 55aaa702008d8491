"""Results of language models, and the table made of them.

``python -m seqnorm.training.language_results results/language.csv`` prints it as Markdown.

Seed 0 tries learning rates: ``RATES`` and, as long as the highest is the best of them, the next
one, about three times higher. The one with the least validation loss is a norm's; what the table
shows are the runs of all other seeds at that rate.
"""

from __future__ import annotations

import csv
import math
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

    Raises:
        ValueError: a group of runs is not complete: a rate has not been tried, or no seed but 0
            has run at the best.
    """
    groups: defaultdict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            groups[tuple(row[name] for name in COLUMNS[:5])].append(row)
    lines = [
        "| corpus | mode | level | cell | norm | lr | test perplexity | bits a character | runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for group, rows in groups.items():
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
        lines.append(f"| {' | '.join([*group, f'{lr:g}', *figures, str(len(final))])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
