"""Accuracy and macro F1 from counts of classes, and the table of them that is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor


def accuracy(confusion: Tensor) -> float:
    """Return the part of the documents on the diagonal of ``confusion`` (C, C)."""
    return float(confusion.diagonal().sum() / confusion.sum())


def macro_f1(confusion: Tensor) -> float:
    """Return the mean F1 over the classes that occur in ``confusion`` (C, C), predicted or true."""
    hits = confusion.diagonal()
    marginals = confusion.sum(0) + confusion.sum(1)
    present = marginals > 0
    return float((2 * hits[present] / marginals[present]).mean())


def print_scores(
    title: str,
    loss: float,
    confusion: Tensor,
    names: Sequence[str],
    units: tuple[str, str] = ("tokens", "documents"),
) -> None:
    """Print accuracy and macro F1, overall and by length.

    Args:
        title: The title of the table.
        loss: The mean loss.
        confusion: (L, C, C) counts of documents by length bucket, class and predicted class.
        names: The names of the L buckets.
        units: The words for the unit of length and for the examples.
    """
    table = Table(title=escape(title))  # a path may contain Rich's markup
    table.add_column(units[0])
    for heading in (units[1], "accuracy", "macro F1", "loss"):
        table.add_column(heading, justify="right")
    total = confusion.sum(0)
    table.add_row("all", *_row(total), f"{loss:.4f}", end_section=True)
    for name, bucket in zip(names, confusion):
        if bucket.sum() > 0:
            table.add_row(name, *_row(bucket))
    Console().print(table)
    print(f"{title}: accuracy {accuracy(total):.4f}, macro F1 {macro_f1(total):.4f}")


def _row(confusion: Tensor) -> tuple[str, str, str]:
    return f"{int(confusion.sum()):,}", f"{accuracy(confusion):.4f}", f"{macro_f1(confusion):.4f}"
