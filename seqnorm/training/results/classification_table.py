"""The table of the results of classifiers.

``python -m seqnorm.training.results.classification_table results/text_classification.csv`` prints
it as Markdown.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from .rows import RUN_COLUMNS, read_rows, spread

SCORES = ("test_accuracy", "test_macro_f1")
COLUMNS = ("corpus", "cell", "norm", "seed", *SCORES, *RUN_COLUMNS)


def markdown(path: str | Path) -> str:
    """Return the table of the results in ``path``: mean and standard deviation over runs."""
    groups: defaultdict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(path):
        groups[row["corpus"], row["cell"], row["norm"]].append(row)
    lines = [
        "| corpus | cell | norm | test accuracy | test macro F1 | runs |",
        "|---|---|---|---|---|---|",
    ]
    corpora = list(dict.fromkeys(corpus for corpus, _, _ in groups))  # keep a corpus together
    for group, rows in sorted(groups.items(), key=lambda item: corpora.index(item[0][0])):
        figures = [spread([float(row[name]) for row in rows]) for name in SCORES]
        lines.append(f"| {' | '.join([*group, *figures, str(len(rows))])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(sys.argv[1]))
