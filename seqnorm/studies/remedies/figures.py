"""Figures of the study of remedies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqnorm.studies.evidence import Seeds
from seqnorm.studies.figures import (
    NAMES,
    STYLES,
    batch_axis,
    draw_line,
    log_ticks,
    panels,
    with_legend,
)
from seqnorm.studies.table import Table

from .verdict import Errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study import Remedies


def figures(study: Remedies, table: Table) -> dict[str, Figure]:
    """Draw all figures of the reported runs."""
    errors = Errors(table.where(stage="run"))
    drawn = {"choices": _choices(study, errors), "batches": _batches(study, errors)}
    return drawn | {"longer": _longer(study, errors)}


def _choices(study: Remedies, errors: Errors) -> Figure:
    large, small = study.batches[0], study.batches[-1]
    titles = [f"trained on batches of {size}" for size in (large, small)]
    titles.append(f"trained on {study.tokens} tokens, tested on whole documents")
    drawn, grid = panels(titles, 2.5, 1, 5.6, sharex=True)
    measured = (("error", large), ("error", small), ("error_whole", large))
    for axes, (measure, size) in zip(grid, measured):
        _rows(axes, {norm: errors.of(norm, size, measure) for norm in study.norms})
    grid[-1].set_xlim(0, min(100, grid[-1].get_xlim()[1]))  # the range of all panels
    grid[-1].set_xlabel("mistakes in 100 documents")
    return drawn


def _rows(axes: Axes, values: Mapping[str, Seeds]) -> None:
    """Draw a mean with its interval and its number for each norm, one below the other."""
    for place, (norm, found) in enumerate(values.items()):
        if found:
            mean, half = found.interval.mean, found.interval.half
            look = {"color": STYLES[norm]["color"], "marker": STYLES[norm]["marker"]}
            axes.errorbar([mean], [place], xerr=[half], capsize=2.5, markersize=6, **look)
            style = {"color": look["color"], "va": "center", "fontsize": 9}
            end = (mean + half, place)
            axes.annotate(f"{mean:.1f}", end, (6, 0), textcoords="offset points", **style)
    axes.set_yticks(range(len(values)), [NAMES[norm] for norm in values], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)


def _batches(study: Remedies, errors: Errors) -> Figure:
    drawn, (axes,) = panels(["test error, %"], 4.2, 1, 6.4)
    for norm in study.norms:
        draw_line(axes, {size: errors.of(norm, size) for size in study.batches}, norm)
    anew = {size: errors.of("batch", size, "error_anew") for size in study.batches}
    look = {"linestyle": "--", "markerfacecolor": "white"}
    draw_line(axes, anew, "batch", "BatchNorm, statistics taken anew", **look)
    batch_axis(axes, study.batches, "documents in a training batch")
    axes.set_yscale("log")
    axes.set_ylim(4, 100)
    log_ticks(axes.yaxis)
    return with_legend(drawn, [axes], 2)


def _longer(study: Remedies, errors: Errors) -> Figure:
    large = study.batches[0]
    titles = ["running statistics as training left them", "statistics of whole training documents"]
    drawn, grid = panels(titles, 2.6, 1, 5.6, sharex=True)
    for axes, anew in zip(grid, (False, True)):
        found = {norm: errors.longer(norm, large, anew) for norm in study.norms}
        _rows(axes, {norm: found[norm] for norm in found if found[norm] or not anew})
        axes.axvline(0, color="grey", linewidth=0.8)
    grid[-1].set_xlabel("more mistakes in 100 documents")
    return drawn
