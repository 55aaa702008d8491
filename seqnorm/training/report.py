"""The table that a test prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from .metrics import accuracy, macro_f1


def print_report(title: str, loss: float, confusion: Tensor, names: Sequence[str]) -> None:
    """Prints accuracy and macro F1, overall and by length.

    ``confusion`` (L, C, C) counts documents by length bucket, class and predicted class; ``names``
    are those of the L buckets.
    """
    table = Table(title=escape(title))  # a path may hold what Rich would take as markup
    table.add_column("tokens")
    for heading in ("documents", "accuracy", "macro F1", "loss"):
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
