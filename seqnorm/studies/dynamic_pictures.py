"""The figures of the study of dynamic networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from .dynamic_findings import (
    Settings,
    difference,
    loss_of,
    measured,
    points,
    rest_of,
)
from .evidence import Interval, interval
from .figures import NAMES, STYLES, draw_line, figure, tidy
from .study import Picture
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES: dict[str, dict[str, Any]] = {
    "64": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "16": {"color": "#009E73", "linestyle": "--", "marker": "s"},
    "4": {"color": "#D55E00", "linestyle": "-.", "marker": "^"},
    "running": {"color": "#000000", "linestyle": ":", "marker": "x"},
}


def pictures(study: Settings, table: Table) -> list[Picture]:
    """All figures; what was not run leaves gaps."""
    return [
        _rows(study, table),
        _errors(study, table),
        _lengths(study, table),
        _cut(study, table),
        _causes(study, table),
        _sites(study, table),
        _cost(study, table),
    ]


def _panels(titles: Sequence[str], height: float, columns: int) -> tuple[Figure, list[Axes]]:
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    drawn = figure(max(5.0, 3.5 * columns), height * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, title in zip(grid, titles):
        axes.set_title(title, fontsize=10)
        tidy(axes)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    return drawn, grid


def _legend(drawn: Figure, panels: Iterable[Axes], columns: int = 5) -> None:
    """One legend of all panels, below them."""
    found = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    if found:
        drawn.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=columns, fontsize=9
        )


def _curves(table: Table, name: str, **setting: Any) -> dict[float, list[float]]:
    """A curve's values at every x, over the seeds."""
    found: dict[float, list[float]] = {}
    for row in table.where(stage="run", variant=None, **setting):
        for x, y in table.curve(row, name):
            found.setdefault(x, []).append(y)
    return found


def _draw_curve(axes: Axes, values: dict[float, list[float]], label: str, style: str) -> None:
    """The mean over seeds, and its 95 % interval as a band."""
    xs = sorted(values)
    found = [interval(values[x]) for x in xs]
    look = SIZES[style]
    axes.plot(xs, [i.mean for i in found], label=label, markersize=3.5, linewidth=1.3, **look)
    if all(math.isfinite(i.low) for i in found):
        axes.fill_between(
            xs, [i.low for i in found], [i.high for i in found], alpha=0.2, color=look["color"]
        )


def _rows(study: Settings, table: Table) -> Picture:
    drawn, panels = _panels(study.tails, 3.4, 3)
    for axes, corpus in zip(panels, study.tails):
        for size in ("64", "16", "4"):
            values = _curves(table, f"rows_{size}", part="rows", corpus=corpus)
            kept = {step + 1: rows for step, rows in values.items() if min(rows) > 0}
            _draw_curve(axes, kept, f"batches of {size}", size)
        axes.axhspan(0.005, 2, color="#999999", alpha=0.25, linewidth=0)
        axes.set(xscale="log", yscale="log", ylim=(0.005, 100), xlabel="time step")
    panels[0].set_ylabel("sequences that reach the step")
    _legend(drawn, panels)
    return Picture(
        "rows",
        drawn,
        "How many documents of a random batch are so long that they reach a time step, on average "
        "over batches. These are the rows from which BatchNorm takes the mean and the variance of "
        "that step. Both axes are logarithmic. In the grey area there are fewer than two on "
        "average, and of one row there is no variance.",
    )


def _errors(study: Settings, table: Table) -> Picture:
    grid = list(product(study.corpora, study.cells))
    drawn, panels = _panels([f"{corpus}, {cell.upper()}" for corpus, cell in grid], 2.9, 2)
    for axes, (corpus, cell) in zip(panels, grid):
        for name in SIZES:
            values = _curves(
                table, f"error_{name}", part="whole", corpus=corpus, cell=cell, norm="batch"
            )
            label = "running statistics" if name == "running" else f"one batch of {name}"
            _draw_curve(axes, values, label, name)
        axes.set(xlabel="time step", ylabel="relative error", ylim=(0, None))
    _legend(drawn, panels, 4)
    return Picture(
        "errors",
        drawn,
        "How far the variance that BatchNorm uses at a time step is from the true one, that of all "
        "training documents which reach the step: the relative error, the median over the units "
        "of the network; bands are 95 % intervals over seeds. Training normalises by single "
        "batches, test by the running statistics. Later steps rest on fewer documents, and their "
        "variances are worse.",
    )


def _lengths(study: Settings, table: Table) -> Picture:
    grid = list(product(study.corpora, study.cells))
    drawn, panels = _panels([f"{corpus}, {cell.upper()}" for corpus, cell in grid], 2.9, 2)
    bounds = study.bounds
    names = [f"to {bounds[0]}", *(f"to {b}" for b in bounds[1:]), f"over {bounds[-1]}"]
    for axes, (corpus, cell) in zip(panels, grid):
        for place, norm in enumerate(study.norms):
            values = {
                number + 0.12 * (place - (len(study.norms) - 1) / 2): {
                    seed: 100 * share
                    for seed, share in measured(
                        table,
                        f"length_{number}",
                        part="whole",
                        corpus=corpus,
                        cell=cell,
                        norm=norm,
                    ).items()
                }
                for number in range(len(names))
            }
            if any(values.values()):
                draw_line(axes, values, norm)
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel="tokens of the document", ylabel="test accuracy, %")
    _legend(drawn, panels, 3)
    return Picture(
        "lengths",
        drawn,
        "Accuracy on test documents of different length after training on whole documents; bars "
        "are 95 % intervals over seeds. If BatchNorm suffered from the worse statistics of late "
        "steps, its line would fall below the others at the right.",
    )


def _cut(study: Settings, table: Table) -> Picture:
    grid = list(product(study.poolings, study.corpora))
    drawn, panels = _panels([f"{corpus}, {pooling} pooling" for pooling, corpus in grid], 2.9, 2)
    for axes, (pooling, corpus) in zip(panels, grid):
        for number, cell in enumerate(study.cells):
            for place, norm in enumerate(study.norms):
                of = {"corpus": corpus, "cell": cell, "norm": norm, "pooling": pooling}
                value = points(interval(loss_of(table, **of).values()))
                style = STYLES[norm] | {"linestyle": "", "fillstyle": ("full", "none")[number % 2]}
                x = place + 0.25 * (number - (len(study.cells) - 1) / 2)
                _point(axes, x, value, style, cell.upper(), vertical=True)
        axes.axhline(0, color="black", linewidth=0.8)
        names = [NAMES[norm].replace(", pooled over time", "\npooled") for norm in study.norms]
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_ylabel("change, points")
    return Picture(
        "cut",
        drawn,
        f"Networks that in training saw no more than the first {study.cut} tokens of a document "
        "read whole ones: the change of the test accuracy against the same documents cut at "
        f"{study.cut} tokens, for documents longer than that. Below zero, reading on does harm. "
        f"Filled marks: {study.cells[0].upper()}; open ones: "
        f"{', '.join(cell.upper() for cell in study.cells[1:]) or 'no other cell'}. Bars are 95 % "
        "intervals over seeds.",
    )


def _point(
    axes: Axes, place: float, value: Interval, style: dict[str, Any], label: str, vertical: bool
) -> None:
    if value.n == 0:
        return
    half = value.high - value.mean if math.isfinite(value.high) else 0.0
    at = (place, value.mean) if vertical else (value.mean, place)
    bar = {"yerr" if vertical else "xerr": half}
    axes.errorbar(*at, **bar, label=label, capsize=2.5, markersize=6, **style)


CONDITIONS = {
    "accuracy_again": "first tokens over and over",
    "accuracy_tail": "last tokens alone",
    "accuracy": "whole, as trained",
    "accuracy_population": "whole, statistics of the\nwhole training documents",
    "accuracy_own": "whole, statistics of the\ntest documents",
    "accuracy_batch": "whole, statistics of the\nbatch in test",
    "accuracy_bias": "whole, new biases\nof the head",
    "accuracy_head": "whole, new head",
}


def _causes(study: Settings, table: Table) -> Picture:
    grid = list(product(study.corpora, study.cells))
    pooling = study.poolings[0]
    drawn, panels = _panels([f"{corpus}, {cell.upper()}" for corpus, cell in grid], 4.2, 2)
    for axes, (corpus, cell) in zip(panels, grid):
        for number, norm in enumerate(n for n in ("batch", "layer", "none") if n in study.norms):
            of = {"corpus": corpus, "cell": cell, "norm": norm, "pooling": pooling}
            style = STYLES[norm] | {"linestyle": ""}
            for place, measure in enumerate(CONDITIONS):
                found = difference(table, measure, "accuracy_cut", part="cut", **of)
                if measure == "accuracy_head":  # the control has a new head too
                    found = rest_of(table, **of)
                value = points(interval(found.values()))
                _point(axes, place + 0.22 * (number - 1), value, style, NAMES[norm], False)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(CONDITIONS)), list(CONDITIONS.values()), fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("change against the documents cut, points")
        if axes not in panels[:: min(2, len(grid))]:
            axes.set_yticklabels([])
    _legend(drawn, panels)
    return Picture(
        "causes",
        drawn,
        f"What the loss on documents longer than the {study.cut} tokens of training comes from, "
        f"with {pooling} pooling: each line runs the same trained networks in another way, and "
        "shows the change of accuracy against the same documents cut. First as many steps as the "
        f"document has, but only its first {study.cut} tokens, over and over; then its last "
        f"{study.cut} tokens alone, read from the start; then whole documents, with BatchNorm's "
        "statistics of every step replaced, then with the linear head on top fitted anew (against "
        "cut documents with a new head too). A cause shows as a line on which the loss is gone.",
    )


def _sites(study: Settings, table: Table) -> Picture:
    of = {"corpus": study.corpora[0], "cell": study.cells[0], "pooling": study.poolings[0]}
    drawn, panels = _panels([f"{of['corpus']}, {of['cell'].upper()}"], 3.0, 1)
    axes = panels[0]
    shown = [
        ("all sites", "batch", None),
        *((text, "batch", site) for site, text in SHORT.items() if site in study.variants),
        ("LayerNorm", "layer", None),
        ("no norm", "none", None),
    ]
    shown = [line for line in shown if line[1] in study.norms]
    for place, (_, norm, variant) in enumerate(shown):
        value = points(interval(loss_of(table, norm=norm, variant=variant, **of).values()))
        _point(axes, place, value, STYLES[norm] | {"linestyle": ""}, "", False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [text for text, _, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("change against the documents cut, points")
    return Picture(
        "sites",
        drawn,
        "The same loss for networks that were trained with BatchNorm at some of its sites only, "
        f"{of['pooling']} pooling. Bars are 95 % intervals over seeds.",
    )


SHORT = {
    "input": "input only",
    "hidden": "recurrent part only",
    "cell": "cell state only",
    "no_cell": "all but the cell state",
}


def _cost(study: Settings, table: Table) -> Picture:
    drawn, panels = _panels(["time of a training step", "floats kept for a layer"], 3.6, 2)
    cell = study.cells[0]
    places = range(len(study.norms))
    for number, (label, shade) in enumerate((("cut like the others", 0.45), ("whole", 1.0))):
        for place, norm in enumerate(study.norms):
            seconds = _curves(table, "seconds", part="cost", cell=cell, norm=norm)
            if len(seconds) == 2:
                panels[0].bar(
                    place + 0.4 * (number - 0.5),
                    interval(seconds[sorted(seconds)[number]]).mean,
                    0.38,
                    color=STYLES[norm]["color"],
                    alpha=shade,
                    label=f"longest document {label}" if place == 0 else None,
                )
    kinds = (("parameters", "parameters", 0.45), ("table_bytes", "running tables", 1.0))
    for number, (measure, label, shade) in enumerate(kinds):
        for place, norm in enumerate(study.norms):
            found = measured(table, measure, part="cost", cell=cell, norm=norm)
            value = interval(found.values()).mean / (4 if measure == "table_bytes" else 1)
            if value > 0:
                panels[1].bar(
                    place + 0.4 * (number - 0.5),
                    value,
                    0.38,
                    color=STYLES[norm]["color"],
                    alpha=shade,
                    label=label if place == 0 else None,
                )
    names = [NAMES[norm].replace(", pooled over time", "\npooled") for norm in study.norms]
    for axes in panels[:2]:
        axes.set_xticks(places, names, fontsize=7)
        axes.set_yscale("log")
        axes.legend(fontsize=8, loc="upper right")
    panels[0].set_ylabel("seconds on one core")
    panels[1].set_ylabel("numbers")
    return Picture(
        "cost",
        drawn,
        "Left: a training step on a batch whose longest document is cut like the others, and the "
        "same with that document whole (the times are of the machine that made the runs). Right: "
        f"parameters of one {cell.upper()} layer, and the numbers in the tables of running "
        "statistics that such a document asks for; both axes are logarithmic. Norms without "
        "statistics of the batch need no table.",
    )
