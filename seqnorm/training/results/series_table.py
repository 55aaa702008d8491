"""The tables of the results on series.

``python -m seqnorm.training.results.series_table results/series.csv`` prints that of classifiers as
Markdown.

Each cell and norm has a learning rate of its own, chosen by the validation loss of runs with seed 0
as in ``language_table``. The table shows the runs of all other seeds at that rate.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from .language_table import best_rate, losses_of, next_rate
from .rows import RUN_COLUMNS, read_rows, spread

_RUN = ("corpus", "cell", "norm", "lr", "seed", "val_loss")
CLASSIFICATION = (*_RUN, "test_accuracy", "test_macro_f1", *RUN_COLUMNS)
REGRESSION = (*_RUN, "test_mae", "test_rmse", "test_r2", *RUN_COLUMNS)
SCORES = ("test_accuracy", "test_macro_f1")


def markdown(path: str | Path) -> str:
    """Return the table of the results in ``path``: mean and standard deviation over seeds.

    Raises:
        ValueError: A group of runs is incomplete: a rate has not been tried, or only seed 0 has run
            at the best rate.
    """
    groups: defaultdict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(path):
        groups[row["corpus"], row["cell"], row["norm"]].append(row)
    columns = ["corpus", "cell", "norm", "lr", "test accuracy", "test macro F1", "runs"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for group, rows in groups.items():
        losses = losses_of(rows)
        if (missing := next_rate(losses)) is not None:
            raise ValueError(f"{' '.join(group)}: no run with seed 0 tries lr {missing:g}")
        lr = best_rate(losses)
        final = [row for row in rows if row["seed"] != "0" and float(row["lr"]) == lr]
        if not final:
            raise ValueError(f"{' '.join(group)}: no run with another seed than 0 at lr {lr:g}")
        figures = [spread([float(row[name]) for row in final]) for name in SCORES]
        lines.append(f"| {' | '.join([*group, f'{lr:g}', *figures, str(len(final))])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
