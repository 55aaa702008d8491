"""Figures of the study of dynamic networks."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Seeds
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

from .verdict import SITE_WORDS, Networks, networks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study import DynamicNetwork

# Styles of the lines of batch sizes, and of the running statistics.
SIZES: dict[str, dict[str, Any]] = {
    "64": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "16": {"color": "#009E73", "linestyle": "--", "marker": "s"},
    "4": {"color": "#D55E00", "linestyle": "-.", "marker": "^"},
    "running": {"color": "#000000", "linestyle": ":", "marker": "x"},
}
LINE: dict[str, Any] = {"markersize": 3.5, "linewidth": 1.3}


def figures(study: DynamicNetwork, table: Table) -> dict[str, Figure]:
    """Draw all figures of the reported runs."""
    runs = table.where(stage="run")
    drawings = (_reading_on, _rows, _errors, _lengths, _cut, _causes, _sites, _cost)
    return {draw.__name__[1:]: draw(study, runs) for draw in drawings}


def _point(
    axes: Axes, place: float, value: Seeds, norm: str, label: str, *, upright: bool, **style: Any
) -> None:
    """Draw a mean with its 95 % interval, at this place of the axis of categories."""
    found, look = value.interval, STYLES[norm] | {"linestyle": ""} | style
    if found.n:
        x, y = (place, found.mean) if upright else (found.mean, place)
        across, up = (None, found.half) if upright else (found.half, None)
        axes.errorbar(x, y, up, across, label=label, capsize=2.5, markersize=6, **look)


def _with_legend(drawn: Figure, grid: list[Axes], columns: int = 5) -> Figure:
    columns = columns if len(grid) > 1 else 2
    return with_legend(drawn, grid, columns, fontsize=9, frameon=True)


def _norm_ticks(axes: Axes, study: DynamicNetwork) -> None:
    names = [NAMES[norm].replace(", pooled over time", "\npooled") for norm in study.norms]
    axes.set_xticks(range(len(names)), names, fontsize=7)


def _reading_on(study: DynamicNetwork, runs: Table) -> Figure:
    title = (
        f"More mistakes in 100 documents after reading on\npast the {study.cut} tokens of training"
    )
    drawn, (axes,) = panels([title], 3.6, 1)
    of = Networks(runs, study.corpora[0], study.cells[0], study.poolings[0])
    for place, norm in enumerate(study.norms):
        more = -1 * of.change(norm)
        _point(axes, place, more, norm, NAMES[norm], upright=True)
        write_means(axes, {place: more}, norm)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.margins(x=0.12, y=0.15)
    _norm_ticks(axes, study)
    return drawn


def _rows(study: DynamicNetwork, runs: Table) -> Figure:
    drawn, grid = panels(study.tails, 3.4, 3)
    for axes, corpus in zip(grid, study.tails):
        for size in ("64", "16", "4"):
            values = runs.curve_by_seed(f"rows_{size}", part="rows", corpus=corpus)
            kept = {step + 1: rows for step, rows in values.items() if min(rows.values()) > 0}
            draw_curve(axes, kept, f"batches of {size}", **LINE, **SIZES[size])
        axes.axhspan(0.005, 2, color="#999999", alpha=0.25, linewidth=0)
        axes.set(yscale="log", ylim=(0.005, 100), xlabel="time step")
        if axes.lines:
            axes.set_xscale("log")
    grid[0].set_ylabel("sequences that reach the step")
    return _with_legend(drawn, grid)


def _errors(study: DynamicNetwork, runs: Table) -> Figure:
    cases = list(product(study.corpora, study.cells))
    drawn, grid = panels([f"{corpus}, {cell.upper()}" for corpus, cell in cases], 2.9, 2)
    for axes, (corpus, cell) in zip(grid, cases):
        of = {"corpus": corpus, "cell": cell, "norm": "batch", "pooling": study.poolings[0]}
        for name in SIZES:
            values = runs.curve_by_seed(f"error_{name}", part="whole", variant=None, **of)
            label = "running statistics" if name == "running" else f"one batch of {name}"
            draw_curve(axes, values, label, **LINE, **SIZES[name])
        axes.set(xlabel="time step", ylabel="relative error")
        if axes.lines:
            axes.set_ylim(0, None)
    return _with_legend(drawn, grid, 4)


def _lengths(study: DynamicNetwork, runs: Table) -> Figure:
    cases = networks(study, runs)
    drawn, grid = panels([str(of) for of in cases], 2.9, len(cases) // len(study.corpora))
    bounds = study.bounds
    names = [f"to {bounds[0]}", *(f"{b}" for b in bounds[1:]), "more"]
    for axes, of in zip(grid, cases):
        for place, norm in enumerate(study.norms):
            aside = 0.12 * (place - (len(study.norms) - 1) / 2)
            values = {x + aside: of.whole(f"length_{x}", norm) for x in range(len(names))}
            if any(values.values()):
                draw_line(axes, values, norm)
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel="tokens of the document", ylabel="test accuracy, %")
    return _with_legend(drawn, grid, 3)


def _cut(study: DynamicNetwork, runs: Table) -> Figure:
    cases = list(product(study.poolings, study.corpora))
    drawn, grid = panels([f"{corpus}, {pooling} pooling" for pooling, corpus in cases], 2.9, 2)
    marks = list(product(enumerate(study.cells), enumerate(study.norms)))
    for axes, (pooling, corpus) in zip(grid, cases):
        for (number, cell), (place, norm) in marks:
            value = Networks(runs, corpus, cell, pooling).change(norm)
            x = place + 0.25 * (number - (len(study.cells) - 1) / 2)
            fill = ("full", "none")[number % 2]
            _point(axes, x, value, norm, cell.upper(), upright=True, fillstyle=fill)
        axes.axhline(0, color="black", linewidth=0.8)
        _norm_ticks(axes, study)
        axes.set(xlim=(-0.6, len(study.norms) - 0.4), ylabel="change of accuracy, points")
    return _with_legend(drawn, grid)


CONDITIONS = {
    "accuracy_cut_population": "cut, statistics of the\ncut training documents",
    "accuracy_again": "first tokens repeated",
    "accuracy_again_population": "first tokens repeated,\nstatistics of such documents",
    "accuracy_tail": "last tokens alone",
    "accuracy": "whole, as trained",
    "accuracy_population": "whole, statistics of the\nwhole training documents",
    "accuracy_own": "whole, statistics of the\ntest documents",
    "accuracy_batch": "whole, statistics of the\nbatch in test",
    "accuracy_bias": "whole, biases of the\nhead fitted anew",
    "accuracy_head": "whole, head\nfitted anew",
}


def _causes(study: DynamicNetwork, runs: Table) -> Figure:
    cases = list(product(study.corpora, study.cells))
    norms = [norm for norm in ("batch", "layer", "none") if norm in study.norms]
    drawn, grid = panels([f"{corpus}, {cell.upper()}" for corpus, cell in cases], 4.8, 2)
    for axes, (corpus, cell) in zip(grid, cases):
        of = Networks(runs, corpus, cell, study.poolings[0])
        for (number, norm), (place, measure) in product(enumerate(norms), enumerate(CONDITIONS)):
            # With a new head the control has one too.
            control = "accuracy_cut_head" if measure == "accuracy_head" else "accuracy_cut"
            found = of.cut(measure, norm) - of.cut(control, norm)
            at = place + 0.22 * (number - 1)
            _point(axes, at, found, norm, NAMES[norm], upright=False)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(CONDITIONS)), list(CONDITIONS.values()), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("change of accuracy, points")
        if axes not in grid[:: min(2, len(cases))]:
            axes.set_yticklabels([])
    return _with_legend(drawn, grid)


def _sites(study: DynamicNetwork, runs: Table) -> Figure:
    of = Networks(runs, study.corpora[0], study.cells[0], study.poolings[0])
    drawn, (axes,) = panels([f"{of.corpus}, {of.cell.upper()}"], 3.0, 1)
    shown: list[tuple[str, str, str | None]] = [("all sites", "batch", None)]
    for site, words in SITE_WORDS.items():
        short = words.replace("everywhere but at", "all but").removeprefix("at the ")
        if site in study.variants:
            shown.append((short.replace("alone", "only"), "batch", site))
    others = [("LayerNorm", "layer", None), ("no norm", "none", None)]
    shown = [line for line in [*shown, *others] if line[1] in study.norms]
    for place, (_, norm, variant) in enumerate(shown):
        _point(axes, place, of.change(norm, variant), norm, "", upright=False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [text for text, _, _ in shown])
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)  # from above
    axes.set_xlabel("change of accuracy, points")
    return drawn


def _cost(study: DynamicNetwork, runs: Table) -> Figure:
    drawn, grid = panels(["seconds of a training step", "numbers kept for a layer"], 3.6, 2)
    for place, norm in enumerate(study.norms):
        of = {"part": "cost", "cell": study.cells[0], "norm": norm}
        seconds = runs.curve_by_seed("seconds", **of)
        cut, whole = [seconds[x] for x in sorted(seconds)] if len(seconds) == 2 else [Seeds()] * 2
        kept = 0.25 * runs.by_seed("table_bytes", **of)  # four bytes are a number
        for axes, label, filled, values in (
            (grid[0], "longest document cut", False, cut),
            (grid[0], "longest document whole", True, whole),
            (grid[1], "parameters", False, runs.by_seed("parameters", **of)),
            (grid[1], "running statistics", True, kept),
        ):
            marker, fill = ("o", "full") if filled else ("D", "none")
            look = {"marker": marker, "fillstyle": fill, "color": "black"}
            if values.interval.mean > 0:
                _point(axes, place, values, norm, label, upright=True, **look)
    for axes in grid:
        _norm_ticks(axes, study)
        axes.set_xlim(-0.5, len(study.norms) - 0.5)
        if axes.containers:
            axes.set_yscale("log")
    return _with_legend(drawn, grid, 2)
