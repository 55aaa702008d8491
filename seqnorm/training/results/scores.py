"""Scores from counts of classes, and the tables of them that are printed and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from seqnorm.datasets.record_files import record_line
from seqnorm.files import write_atomically

# The most classes that are printed; all of them are written.
_MOST = 20


def accuracy(confusion: Tensor) -> float:
    """Return the part of the documents on the diagonal of ``confusion`` (C, C)."""
    return float(confusion.diagonal().sum() / confusion.sum())


def macro_f1(confusion: Tensor) -> float:
    """Return the mean F1 over the classes that occur in ``confusion`` (C, C), predicted or true."""
    hits = confusion.diagonal()
    marginals = confusion.sum(0) + confusion.sum(1)
    present = marginals > 0
    return float((2 * hits[present] / marginals[present]).mean())


class ClassScores(NamedTuple):
    """The scores of a class; a quotient without documents is 0."""

    name: str
    documents: int
    predicted: int
    precision: float
    recall: float
    f1: float


def class_scores(confusion: Tensor, classes: Sequence[str]) -> list[ClassScores]:
    """Return the scores of each class from ``confusion`` (C, C), by class and predicted class."""
    found = []
    hits, documents, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    for name, hit, true, said in zip(
        classes, hits.tolist(), documents.tolist(), predicted.tolist()
    ):
        ratios = (hit / said if said else 0.0, hit / true if true else 0.0)
        f1 = 2 * hit / (true + said) if true + said else 0.0
        found.append(ClassScores(name, int(true), int(said), *ratios, f1))
    return found


def write_class_scores(confusion: Tensor, classes: Sequence[str], path: Path) -> None:
    """Write the scores of each class into a CSV file."""
    lines = [record_line(["class", *ClassScores._fields[1:]])]
    for name, documents, predicted, *ratios in class_scores(confusion, classes):
        shown = (f"{ratio:.4f}" for ratio in ratios)
        lines.append(record_line([name, documents, predicted, *shown]))
    write_atomically(path, "".join(lines))


def never_predicted(confusion: Tensor, classes: Sequence[str], unit: str) -> str:
    """Return a warning that names the classes that were never predicted, or ""."""
    found = [
        each for each in class_scores(confusion, classes) if each.documents and not each.predicted
    ]
    if not found:
        return ""
    shown = ", ".join(f"{each.name} ({unit}: {each.documents:,})" for each in found[:10])
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return f"Never predicted: {shown}{more}"


def print_scores(
    title: str,
    loss: float,
    confusion: Tensor,
    names: Sequence[str],
    classes: Sequence[str] = (),
    units: tuple[str, str] = ("tokens", "documents"),
) -> None:
    """Print accuracy and macro F1, overall and by length, and the scores of each class.

    Args:
        title: The title of the table.
        loss: The mean loss.
        confusion: The counts (L, C, C) of documents by length bucket, class and predicted class.
        names: The names of the L buckets.
        classes: The names of the C classes. If there are many, those of the lowest F1 are shown.
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
    if classes:
        Console().print(_class_table(class_scores(total, classes), units[1]))
    print(f"{title}: accuracy {accuracy(total):.4f}, macro F1 {macro_f1(total):.4f}")


def _class_table(found: list[ClassScores], unit: str) -> Table:
    title = "classes"
    if len(found) > _MOST:
        title = f"the {_MOST} classes of the lowest F1, of {len(found)}"
        found = sorted(found, key=lambda each: each.f1)[:_MOST]
    table = Table(title=title)
    table.add_column("class")
    for heading in (unit, "predicted", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    for name, documents, predicted, *ratios in found:
        counts = f"{documents:,}", f"{predicted:,}"
        table.add_row(escape(name), *counts, *(f"{ratio:.4f}" for ratio in ratios))
    return table


def _row(confusion: Tensor) -> tuple[str, str, str]:
    return f"{int(confusion.sum()):,}", f"{accuracy(confusion):.4f}", f"{macro_f1(confusion):.4f}"
