"""Pictures of a run: learning curve, confusion matrix and statistics of BatchNorm."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from seqnorm.extra import explained
from seqnorm.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    with explained("a picture"):
        from matplotlib.figure import Figure
    # A figure made without pyplot needs no screen and no global state.
    return Figure((width, height), layout="constrained")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of the file's ending."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=Path(path).suffix[1:], dpi=150)
    write_atomically(path, drawn.getvalue())


def learning_curve(
    rows: Sequence[Mapping[str, float]],
    path: str | Path,
    title: str,
    quantities: Sequence[str] = ("loss", "accuracy"),
) -> None:
    """Draw quantities by epoch, from the ``rows`` of metrics.csv, into the file ``path``."""
    figure = new_figure(4.5 * len(quantities), 3.8)
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(panels, quantities):
        for stage, label in (("train", "training"), ("val", "validation")):
            key = f"{stage}_{quantity}"
            values = {row["epoch"]: row[key] for row in rows if key in row}
            if values:
                axes.plot(values.keys(), values.values(), marker="o", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    save_figure(figure, path)


def rate_curve(points: Sequence[tuple[float, float]], suggested: float, path: str | Path) -> None:
    """Draw the loss by learning rate, from ``points`` (rate, loss), into the file ``path``."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    axes.plot(*zip(*points), marker="o", markersize=2)
    axes.axvline(suggested, color="tab:orange", label=f"suggested: {suggested:.1g}")
    axes.set(
        xscale="log",
        xlabel="learning rate, raised at every step",
        ylabel="smoothed training loss",
        title="The loss while the learning rate rises",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


def confusion_matrix(
    confusion: Tensor, classes: Sequence[str], title: str, path: str | Path
) -> None:
    """Draw ``confusion`` (C, C), counts by class and predicted class, into the file ``path``.

    A colour shows the part of the class, so that the errors of a small class are as visible as
    those of a large one.
    """
    size = len(classes)
    # Rows are as high as the smallest legible label; few classes get large numbers instead.
    side = min(max(4.0, 0.21 * size + 2.0), 20.0)
    figure = new_figure(side + 1.5, side + 0.5)
    figure.suptitle(title, fontsize=12 if size < 20 else 18, parse_math=False)
    axes = figure.subplots()
    parts = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    image = axes.imshow(parts.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="part of the class", shrink=0.8, aspect=30)
    # parse_math=False: a "$" in a name would begin a formula.
    font = 10 if size < 10 else 8
    upright = 0 if size < 4 and max(map(len, classes)) < 12 else 90
    axes.set_xticks(range(size), classes, rotation=upright, fontsize=font, parse_math=False)
    axes.set_yticks(range(size), classes, fontsize=font, parse_math=False)
    axes.set(xlabel="predicted", ylabel="class")
    font = 12 if size < 6 else 9 if size < 20 else 7
    for row, column in confusion.nonzero().tolist():
        colour = "white" if parts[row, column] > 0.5 else "black"
        count = f"{int(confusion[row, column])}"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=font)
    save_figure(figure, path)


def statistics_map(rows: Mapping[str, Tensor], drift: Mapping[str, Tensor], path: Path) -> None:
    """Draw the rows of a batch and the drift of the mean, for each norm and step.

    Args:
        rows, drift: The values (S,) by site. NaN stays grey. A site with one step for all fills its
            whole line.
        path: The file.
    """
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import LogLocator, NullLocator

    seen = [int((~values.isnan()).nonzero().max()) + 1 for values in rows.values()]
    width = max(seen)
    figure = new_figure(10, min(2.9 + 0.5 * len(rows), 40.0))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, values, label, logarithmic, least in (
        (panels[0], rows, "rows of a batch", True, 2.0),
        (panels[1], drift, "drift of the mean,\nstandard deviations", False, 0.1),
    ):
        lines = np.full((len(values), width), np.nan)
        for line, found in zip(lines, values.values()):
            line[:] = found[0].item() if len(found) == 1 else np.nan
            if len(found) > 1:
                line[: min(width, len(found))] = found[:width].numpy()
        axes.set_facecolor("0.85")
        top = float(np.nanmax(lines, initial=least))
        image = axes.imshow(
            lines,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis" if logarithmic else "magma_r",
            norm=LogNorm(1.0, top) if logarithmic else Normalize(0.0, top),
            extent=(-0.5, width - 0.5, len(lines) - 0.5, -0.5),
        )
        bar = figure.colorbar(image, ax=axes, label=label)
        if logarithmic:
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            bar.ax.yaxis.set_minor_locator(NullLocator())
            bar.ax.yaxis.set_major_formatter("{x:g}")
        axes.set_yticks(range(len(values)), list(values), fontsize=8)
    if width > 1:
        panels[1].set_xlabel("time step (grey: not reached)")
        panels[1].xaxis.get_major_locator().set_params(integer=True)
    else:
        panels[1].set_xlabel("all steps together (grey: not reached)")
        panels[1].set_xticks([])
    save_figure(figure, path)
