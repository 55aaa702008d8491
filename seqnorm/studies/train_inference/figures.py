"""Figures of the study of training's and inference's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

from seqnorm.studies.figures import (
    NAMES,
    STYLES,
    draw_line,
    log_ticks,
    panels,
    with_legend,
    write_means,
)
from seqnorm.studies.table import Table

from .verdict import COMPANY, OVER_BATCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study import TrainInference

KINDS = {  # in the order of the figure
    "batch1": "1 row",
    "batch4": "4 rows",
    "batch16": "16 rows",
    "batch64": "64 rows",
    "running": "running",
    "average": "average anew",
    "population": "population",
}
OF_BATCHES = 4  # kinds from the left that are of a batch


def figures(study: TrainInference, table: Table) -> dict[str, Figure]:
    """Draw the loss by kind of statistics, changed answers, and the gap during training."""
    runs, drawings = table.where(stage="run"), (_answers, _statistics, _company, _gap)
    return {draw.__name__[1:]: draw(runs, study.batch_sizes) for draw in drawings}


def _panels(titles: Sequence[str], height: float) -> tuple[Figure, list[Axes]]:
    return panels(titles, height, len(titles), 9.0, fontsize=12, sharey=True)


def _norms(runs: Table) -> list[str]:
    return [str(norm) for norm in runs.distinct("norm")]


def _answers(runs: Table, sizes: Sequence[int]) -> Figure:
    drawn, (axes,) = panels(["Documents of 100 whose answer changes\nwith their company"], 3.6, 1)
    order = sorted(sizes, reverse=True)
    for norm in ("batch", "layer"):
        found = {
            place: 100 * runs.by_seed(f"changed_random_{size}", norm=norm, batch=size)
            for place, size in enumerate(order)
        }
        draw_line(axes, found, norm)
        write_means(axes, found, norm)
    axes.set_xticks(range(len(order)), [str(size) for size in order])
    axes.set_xlabel("documents in a batch, in training and in test")
    axes.margins(x=0.12, y=0.15)
    return with_legend(drawn, [axes], 2)


def _statistics(runs: Table, sizes: Sequence[int]) -> Figure:
    drawn, grid = _panels([f"trained in batches of {size}" for size in sizes], 4.2)
    means: list[float] = []
    for axes, size in zip(grid, sizes):
        for norm in _norms(runs):
            if norm not in OVER_BATCH:
                if found := runs.by_seed("loss_running", norm=norm, batch=size):
                    means.append(mean(found.values()))
                    look = STYLES[norm] | {"marker": ""}
                    axes.axhline(means[-1], label=f"{NAMES[norm]} (any batch)", **look)
                continue
            aside = 0.14 * OVER_BATCH.index(norm)
            losses = [runs.by_seed(f"loss_{kind}", norm=norm, batch=size) for kind in KINDS]
            means += [mean(found.values()) for found in losses if found]
            places = [(place + aside, found) for place, found in enumerate(losses)]
            draw_line(axes, dict(places[:OF_BATCHES]), norm)
            # The other kinds have no order, hence no line.
            draw_line(axes, dict(places[OF_BATCHES:]), norm, label="_", linestyle="none")
        axes.axvline(OF_BATCHES - 0.45, color="0.6", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_xticks(range(len(KINDS)), list(KINDS.values()), rotation=45, ha="right")
    if means:  # intervals of two seeds would hide everything else
        grid[0].set_ylim(0.6 * min(means), 1.6 * max(means))
    log_ticks(grid[0].yaxis)
    grid[0].set_ylabel("test loss (log scale)")
    return with_legend(drawn, grid[:1], 4, fontsize=9)


def _company(runs: Table, sizes: Sequence[int]) -> Figure:
    drawn, grid = _panels([f"other documents: {words}" for words in COMPANY.values()], 3.6)
    order, tops = sorted(sizes), [0.0]
    for axes, company in zip(grid, COMPANY):
        for norm in _norms(runs):
            shares = [
                100 * runs.by_seed(f"changed_{company}_{size}", norm=norm, batch=size)
                for size in order
            ]
            draw_line(axes, dict(enumerate(shares)), norm)
            intervals = [values.interval for values in shares if values]
            tops += [min(found.high, 1.5 * found.mean) for found in intervals]
        axes.set_xticks(range(len(order)), [str(size) for size in order])
        axes.set_xlabel("batch size in training and test")
    # Intervals of two seeds would hide everything else.
    grid[0].set(ylim=(-0.5, max(tops) + 1), ylabel="predictions changed, %")
    return with_legend(drawn, grid[:1], 4, fontsize=9)


def _gap(runs: Table, sizes: Sequence[int]) -> Figure:
    from matplotlib.ticker import NullLocator

    drawn, grid = _panels([f"batches of {size}" for size in sizes], 3.6)
    means = [0.0]
    for axes, size in zip(grid, sizes):
        axes.axhline(0, color="0.6", linewidth=0.8)
        for norm in (norm for norm in _norms(runs) if norm in (*OVER_BATCH, "layer")):
            served = runs.curve_by_seed("loss_running", norm=norm, batch=size)
            trained = runs.curve_by_seed("loss_batch", norm=norm, batch=size)
            gaps = {x: served[x] - loss for x, loss in trained.items()}
            draw_line(axes, gaps, norm)
            means += [mean(found.values()) for found in gaps.values()]
        axes.set_xlabel("epochs of training")
    margin = 0.5 * (max(means) - min(means)) + 0.01
    grid[0].set_yscale("symlog", linthresh=0.1)  # early gaps are ten times those at the end
    grid[0].set_yticks([-1, -0.3, -0.1, -0.05, 0, 0.05, 0.1, 0.3, 1])
    grid[0].set_ylim(min(means) - margin, max(means) + margin)
    grid[0].yaxis.set_major_formatter("{x:g}")
    grid[0].yaxis.set_minor_locator(NullLocator())
    grid[0].set_ylabel("test loss,\ninference - as in training")
    return with_legend(drawn, grid[:1], 4, fontsize=9)
