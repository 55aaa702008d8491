"""Results of language models, and the table made of them.

``python -m seqnorm.training.language_results results/language.csv`` prints it as Markdown.

Seed 0 tries learning rates; the one with the least validation loss is a norm's. What the table
shows are the runs of all other seeds at that rate.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

from .results import spread

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


def markdown(path: str | Path) -> str:
    """The table of the results in ``path``: mean and standard deviation over seeds.

    Raises:
        ValueError: a group of runs has not tried a rate with seed 0, or has none at that rate.
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
        tried = [row for row in rows if row["seed"] == "0"]
        if not tried:
            raise ValueError(f"{' '.join(group)}: no run with seed 0 tries a learning rate")
        lr = min(tried, key=lambda row: float(row["val_loss"]))["lr"]
        final = [row for row in rows if row["seed"] != "0" and row["lr"] == lr]
        if not final:
            raise ValueError(f"{' '.join(group)}: no run with another seed than 0 at lr {lr}")
        figures = [
            spread([float(row[name]) for row in final])
            for name in ("test_perplexity", "test_bits_per_character")
        ]
        lines.append(f"| {' | '.join([*group, lr, *figures, str(len(final))])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
