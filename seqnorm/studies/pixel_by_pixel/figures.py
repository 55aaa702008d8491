"""Figures of the study of sequences that are read pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqnorm.studies.figures import (
    NAMES,
    STYLES,
    draw_curve,
    draw_line,
    panels,
    with_legend,
    write_means,
)
from seqnorm.studies.table import Table

from .verdict import WORDS, Accuracies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .study import PixelByPixel


def figures(study: PixelByPixel, table: Table) -> dict[str, Figure]:
    """Draw all figures of the reported runs."""
    runs = table.where(stage="run")
    return {"accuracy": _accuracy(study, runs), "learning": _learning(study, runs)}


def _accuracy(study: PixelByPixel, runs: Table) -> Figure:
    titles = [f"{WORDS[task]}: mistakes in 100 sequences" for task in study.tasks]
    drawn, grid = panels(titles, 2.5, 1, 5.6)
    for axes, task in zip(grid, study.tasks):
        for place, norm in enumerate(study.norms):
            wrong = Accuracies(runs, task).mistakes(norm)
            draw_line(axes, {place: wrong}, norm)
            write_means(axes, {place: wrong}, norm)
        names = [NAMES[norm].replace(", statistics", ",\nstatistics") for norm in study.norms]
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12, y=0.2)
    return drawn


def _learning(study: PixelByPixel, runs: Table) -> Figure:
    drawn, grid = panels([WORDS[task] for task in study.tasks], 2.6, 1, 5.6)
    for axes, task in zip(grid, study.tasks):
        for norm in study.norms:
            curve = runs.curve_by_seed("validation", task=task, norm=norm)
            values = {epoch: 100 * found for epoch, found in curve.items()}
            look = {**STYLES[norm], "marker": ""}
            draw_curve(axes, values, NAMES[norm], alpha=0.15, **look)
        axes.set(ylabel="validation accuracy, %", ylim=(0, 100))
    grid[-1].set_xlabel("epoch")
    return with_legend(drawn, grid, 2)
