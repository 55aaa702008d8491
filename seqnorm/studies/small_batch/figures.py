"""Figures of the study of small batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqnorm.studies.evidence import Seeds
from seqnorm.studies.figures import (
    NAMES,
    STYLES,
    batch_axis,
    draw_line,
    panels,
    with_legend,
    write_means,
)
from seqnorm.studies.table import Table, Value

from .verdict import RIVALS, THINGS, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study import SmallBatch


def figures(study: SmallBatch, table: Table) -> dict[str, Figure]:
    """Draw all figures of the reported runs."""
    runs = table.where(stage="run")
    batches = {part: _batches(runs, part) for part in RIVALS}
    return {"mistakes": _mistakes(runs), **batches, "ghost": _ghosts(runs), "online": _online(runs)}


def _mistakes(runs: Table) -> Figure:
    rows = runs.where(part="text")
    sizes = [size for size in numbers(rows, "batch") if size > 1]
    drawn, (axes,) = panels(["Mistakes in 100 documents of newswire"], 3.6, 1)
    for norm in ("batch", RIVALS["text"]):
        found = {size: _error(rows, norm=norm, batch=size) for size in sizes}
        draw_line(axes, found, norm)
        write_means(axes, {size: found[size] for size in (*sizes[:1], *sizes[-1:])}, norm)
    batch_axis(axes, sizes, "documents in a training batch")
    axes.margins(x=0.12)
    axes.set_ylim(bottom=0)
    _clip(axes, 0, 100)
    return with_legend(drawn, [axes], 2)


def _norms(rows: Table) -> list[str]:
    return [norm for norm in STYLES if rows.where(norm=norm).rows]


def _error(runs: Table, measure: str = "error", **of: Value) -> Seeds:
    return 100 * runs.by_seed(measure, **of)


def _batches(runs: Table, part: str) -> Figure:
    rows = runs.where(part=part)
    sizes = [size for size in numbers(rows, "batch") if size > 1]
    drawn, (left, right) = panels(["", ""], 3.7, 2, 7.6)
    for norm in _norms(rows):
        draw_line(left, {s: _error(rows, norm=norm, batch=s) for s in sizes}, norm)
        draw_line(right, {s: rows.by_seed("loss", norm=norm, batch=s) for s in sizes}, norm)
    anew = {s: _error(rows, "error_reestimated", norm="batch", batch=s) for s in sizes}
    dashed = {"linestyle": "--", "markerfacecolor": "white"}
    draw_line(left, anew, "batch", "BatchNorm, statistics taken anew", **dashed)
    left.set_ylabel("test error, %")
    right.set_ylabel("training loss, last epoch")
    for axes in (left, right):
        batch_axis(axes, sizes, f"{THINGS[part]} in a batch")
    _clip(left, 0, 100)
    _clip(right, 0, float("inf"))
    return with_legend(drawn, [left], 2)


def _clip(axes: Axes, low: float, high: float) -> None:
    """Keep the axis within possible values, however wide the interval of two runs is."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low), min(top, high))


def _ghosts(runs: Table) -> Figure:
    drawn, grid = panels(list(RIVALS), 3.9, 2, 7.6)
    for axes, (part, rival) in zip(grid, RIVALS.items()):
        ghosts, rows = runs.where(part=f"{part}_ghost"), runs.where(part=part)
        batch = next(iter(numbers(ghosts, "batch")), None)
        sizes = [*([] if batch is None else [batch]), *numbers(ghosts, "group")]
        small = {g: _error(rows, norm="batch", batch=g) for g in sizes}
        whole = {g: small[g] if g == batch else _error(ghosts, group=g) for g in sizes}
        draw_line(axes, whole, "batch", "BatchNorm, groups of a full batch")
        dotted = {"linestyle": ":", "markerfacecolor": "white"}
        draw_line(axes, small, "batch", "BatchNorm, batches of that size", **dotted)
        if level := _error(rows, norm=rival, batch=batch):
            found, colour = level.interval, STYLES[rival]["color"]
            label = f"{NAMES[rival]}, full batch"
            axes.axhline(found.mean, color=colour, linestyle="-.", label=label)
            if found.n > 1:
                axes.axhspan(found.low, found.high, color=colour, alpha=0.15, linewidth=0)
        batch_axis(axes, sizes, f"{THINGS[part]} that share statistics")
        axes.set_ylabel("test error, %")
        if batch:
            axes.set_title(f"{part}, full batch {batch}", fontsize=10)
        _clip(axes, 0, 100)
    return with_legend(drawn, grid, 2)


def _online(runs: Table) -> Figure:
    titles = ["one image at a time", "one document at a time"]
    drawn, grid = panels(titles, 3.9, 2, 7.6)
    for axes, part in zip(grid, RIVALS):
        rows = runs.where(part=part, batch=1)
        shown = [(NAMES[norm], norm, rows.where(norm=norm)) for norm in _norms(rows)]
        if (alone := runs.where(part=f"{part}_one_row")).rows:
            shown.insert(1, ("BatchNorm of one row", "batch", alone))
        for place, (_, norm, found) in enumerate(shown):
            values = _error(found)
            draw_line(axes, {float(place): values}, norm)
            axes.plot([place + 0.2] * len(values), list(values.values()), "k_", alpha=0.6)
        labels = [label for label, _, _ in shown]
        axes.set_xticks(range(len(shown)), labels, fontsize=8, rotation=30, ha="right")
        axes.set(xlim=(-0.5, max(len(shown), 1) - 0.5), ylabel="test error, %")
        axes.set_ylim(bottom=0)
        _clip(axes, 0, 100)
    return drawn
