"""Figures of the study of sequences that are read pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqnorm.studies.figures import (
    NAMES,
    STYLES,
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
    drawn, grid = panels(titles, 2.3, 1, 5.6)
    for axes, task in zip(grid, study.tasks):
        for place, norm in enumerate(study.norms):
            mistakes = -1 * Accuracies(runs, task).of(norm)
            wrong = type(mistakes)({seed: 100 + value for seed, value in mistakes.items()})
            draw_line(axes, {place: wrong}, norm)
            write_means(axes, {place: wrong}, norm)
        axes.set_xticks(range(len(study.norms)), [NAMES[norm] for norm in study.norms], fontsize=9)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12, y=0.2)
    return drawn


def _learning(study: PixelByPixel, runs: Table) -> Figure:
    drawn, grid = panels([WORDS[task] for task in study.tasks], 2.6, 1, 5.6)
    for axes, task in zip(grid, study.tasks):
        for norm in study.norms:
            curve = runs.curve_by_seed("validation", task=task, norm=norm)
            found = {epoch: (100 * values).interval for epoch, values in sorted(curve.items())}
            if not found:
                continue
            look = {**STYLES[norm], "marker": ""}
            axes.plot(
                list(found), [each.mean for each in found.values()], label=NAMES[norm], **look
            )
            bounds = zip(*((each.low, each.high) for each in found.values()))
            if all(each.n > 2 for each in found.values()):  # two seeds would hide everything
                axes.fill_between(list(found), *bounds, color=look["color"], alpha=0.15)
        axes.set(ylabel="validation accuracy, %", ylim=(0, 100))
    grid[-1].set_xlabel("epoch")
    return with_legend(drawn, grid, len(study.norms))
