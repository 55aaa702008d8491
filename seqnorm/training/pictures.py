"""Pictures of a run: its learning curve and its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures need matplotlib: pip install 'seqnorm[train]'"
        ) from error
    # A figure made without pyplot draws into files only and leaves no global state behind.
    return Figure((width, height), layout="constrained")


def learning_curve(rows: Sequence[Mapping[str, float]], path: str | Path) -> None:
    """Draws loss and accuracy by epoch, the ``rows`` of metrics.csv, into the file ``path``."""
    figure = _figure(9, 3.6)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for stage, label in (("train", "training"), ("val", "validation")):
            key = f"{stage}_{quantity}"
            values = {row["epoch"] + 1: row[key] for row in rows if key in row}
            axes.plot(values.keys(), values.values(), marker="o", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)


def confusion_matrix(confusion: Tensor, classes: Sequence[str], path: str | Path) -> None:
    """Draws ``confusion`` (C, C), counts by class and predicted class, into the file ``path``.

    Colours are parts of the row, so that a small class shows its errors as a large one does.
    """
    size = len(classes)
    side = min(max(4.0, 0.34 * size + 2.0), 16.0)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    parts = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    image = axes.imshow(parts.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="part of the class", shrink=0.8)
    axes.set_xticks(range(size), classes, rotation=90, fontsize=8)
    axes.set_yticks(range(size), classes, fontsize=8)
    axes.set(xlabel="predicted", ylabel="class")
    for row, column in confusion.nonzero().tolist():
        colour = "white" if parts[row, column] > 0.5 else "black"
        count = f"{int(confusion[row, column])}"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=7)
    figure.savefig(path, dpi=150)
