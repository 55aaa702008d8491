"""Drawing of all studies: one colour, marker and line for each norm, also for colour-blind readers.

The colours are those of Okabe & Ito (2008), which differ in lightness too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .evidence import Seeds

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LOOKS = {  # name, colour, marker and line
    "batch": ("BatchNorm", "#D55E00", "o", "-"),
    "batch_anew": ("BatchNorm, statistics taken anew", "#E69F00", "s", "--"),
    "batch_pooled": ("BatchNorm, pooled over time", "#E69F00", "s", "--"),
    "batch_renorm": ("Batch Renormalization", "#7B3294", "d", "--"),
    "batch_frozen": ("BatchNorm frozen at the end", "#8C510A", "h", "-."),
    "layer": ("LayerNorm", "#0072B2", "^", "-"),
    "rms": ("RMSNorm", "#56B4E9", "v", "--"),
    "dynamic_tanh": ("Dynamic Tanh", "#666666", "p", "-."),
    "group": ("GroupNorm", "#009E73", "D", "-"),
    "instance": ("InstanceNorm", "#CC79A7", "P", "-."),
    "conditional": ("Conditional InstanceNorm", "#CC79A7", "X", ":"),
    "adaptive": ("AdaIN", "#F0E442", "*", "-."),
    "none": ("no norm", "#000000", "x", ":"),
}
NAMES = {norm: name for norm, (name, *_) in LOOKS.items()}
STYLES: dict[str, dict[str, Any]] = {
    norm: {"color": colour, "marker": marker, "linestyle": line}
    for norm, (_, colour, marker, line) in LOOKS.items()
}


def figure(width: float = 7.0, height: float = 3.6) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure

    # A figure made without pyplot draws into files only and leaves no global state behind.
    return Figure((width, height), layout="constrained")


def panels(
    titles: Sequence[str],
    height: float,
    columns: int,
    width: float | None = None,
    *,
    fontsize: float = 10,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, in rows of so many columns.

    Panels have a light grid and no frame at the top and the right.

    Args:
        height: of a row, in inches.
        width: of the figure; by default it follows from the columns.
        fontsize: of the titles.
        options: of ``Figure.subplots``.
    """
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    drawn = figure(width or max(5.0, 4.1 * columns), height * rows)
    grid = drawn.subplots(rows, columns, squeeze=False, **options).flatten().tolist()
    for axes, title in zip(grid, titles):
        axes.set_title(title, fontsize=fontsize)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    return drawn, grid


def draw_line(
    axes: Axes, values: Mapping[Any, Seeds], norm: str, label: str | None = None, **style: Any
) -> None:
    """Draw a norm's mean over seeds at every x, with its 95 % interval as a bar.

    Args:
        values: the measure by x and seed.
        norm: a key of ``STYLES``.
        label: in the legend; the norm's name if None.
        style: replaces parts of the norm's own.
    """
    xs = [x for x in sorted(values) if values[x]]
    means = [values[x].interval.mean for x in xs]
    bars = [values[x].interval.half for x in xs]
    look = {"label": NAMES[norm] if label is None else label, **STYLES[norm], **style}
    axes.errorbar(xs, means, bars, capsize=2.5, markersize=5, linewidth=1.4, **look)


def draw_curve(
    axes: Axes, values: Mapping[float, Seeds], label: str, *, alpha: float = 0.2, **style: Any
) -> None:
    """Draw the mean over seeds with its 95 % interval as a band.

    Args:
        values: the measure by x and seed.
        alpha: of the band.
        style: of the line; the band has its colour.
    """
    xs = sorted(values)
    found = [values[x].interval for x in xs]
    if found:
        axes.plot(xs, [i.mean for i in found], label=label, **style)
    if found and all(i.n > 2 for i in found):  # the band of two seeds would hide everything
        low, high = [i.low for i in found], [i.high for i in found]
        axes.fill_between(xs, low, high, alpha=alpha, color=style["color"])


def batch_axis(axes: Axes, sizes: Sequence[int], label: str) -> None:
    """Make the horizontal axis that of batch sizes, the largest first."""
    axes.set_xscale("log", base=2)
    if sizes:
        axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.invert_xaxis()  # as Wu & He 2018 draw it
    axes.set_xlabel(label)


def write_means(axes: Axes, values: Mapping[Any, Seeds], norm: str, digits: int = 1) -> None:
    """Write the mean over seeds beside the points of a norm, in its colour."""
    for x, found in values.items():
        if found:
            text, place = f"{found.interval.mean:.{digits}f}", (x, found.interval.mean)
            style: dict[str, Any] = {"color": STYLES[norm]["color"], "fontsize": 9, "va": "bottom"}
            axes.annotate(text, place, (5, 4), textcoords="offset points", **style)


def with_legend(drawn: Figure, panels: Iterable[Axes], columns: int, **style: Any) -> Figure:
    """Put one legend of all panels below them, and return the figure."""
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    if found:
        handles, labels = list(found.values()), list(found)
        style = {"frameon": False, **style}
        drawn.legend(handles, labels, loc="outside lower center", ncols=columns, **style)
    return drawn


def log_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 of every decade."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
