"""The figures of the study of dynamic networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from seqnorm.studies.evidence import Interval, interval
from seqnorm.studies.figures import NAMES, STYLES, draw_line, figure, tidy
from seqnorm.studies.study import Picture
from seqnorm.studies.table import Table

from .findings import Settings, difference, grid_of, loss_of, measured, points, rest_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
    drawn = figure(max(5.0, 4.1 * columns), height * rows)
    grid = drawn.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes, title in zip(grid, titles):
        axes.set_title(title, fontsize=10)
        tidy(axes)
    for axes in grid[len(titles) :]:
        axes.set_visible(False)
    return drawn, grid


def _legend(drawn: Figure, panels: Sequence[Axes], columns: int = 5) -> None:
    """One legend of all panels, below them."""
    if len(panels) == 1:
        columns = min(columns, 2)
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    if found:
        drawn.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=columns,
            fontsize=9,
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
    if not values:
        return
    xs = sorted(values)
    found = [interval(values[x]) for x in xs]
    look = SIZES[style]
    axes.plot(xs, [i.mean for i in found], label=label, markersize=3.5, linewidth=1.3, **look)
    if all(i.n > 2 for i in found):  # of two seeds a band would hide everything
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
        axes.set(yscale="log", ylim=(0.005, 100), xlabel="time step")
        if axes.lines:
            axes.set_xscale("log")
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
                table,
                f"error_{name}",
                part="whole",
                corpus=corpus,
                cell=cell,
                norm="batch",
                pooling=study.poolings[0],
            )
            label = "running statistics" if name == "running" else f"one batch of {name}"
            _draw_curve(axes, values, label, name)
        axes.set(xlabel="time step", ylabel="relative error")
        if axes.lines:
            axes.set_ylim(0, None)
    _legend(drawn, panels, 4)
    return Picture(
        "errors",
        drawn,
        "How far the variance that BatchNorm uses at a time step is from the true one, that of all "
        "training documents which reach the step: the relative error, the median over the units "
        "of the network; bands are 95 % intervals over seeds. Training normalises by single "
        "batches, test by the running statistics. Later steps rest on fewer documents: a line that "
        "rises to the right says that their variances are worse.",
    )


def _lengths(study: Settings, table: Table) -> Picture:
    grid = [
        (corpus, cell, pooling)
        for corpus in study.corpora
        for pooling in study.poolings
        for of, cell in grid_of(study, pooling)
        if of == corpus
    ]
    titles = [f"{corpus}, {cell.upper()}, {pooling} pooling" for corpus, cell, pooling in grid]
    drawn, panels = _panels(titles, 2.9, len(grid) // len(study.corpora))
    bounds = study.bounds
    names = [f"to {bounds[0]}", *(f"{b}" for b in bounds[1:]), "more"]
    for axes, (corpus, cell, pooling) in zip(panels, grid):
        for place, norm in enumerate(study.norms):
            of = {"part": "whole", "corpus": corpus, "cell": cell, "pooling": pooling}
            values = {}
            for number in range(len(names)):
                shares = measured(table, f"length_{number}", norm=norm, **of)
                x = number + 0.12 * (place - (len(study.norms) - 1) / 2)
                values[x] = {seed: 100 * share for seed, share in shares.items()}
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
        axes.set_xlim(-0.6, len(names) - 0.4)
    _legend(drawn, panels)
    return Picture(
        "cut",
        drawn,
        f"Networks that in training saw no more than the first {study.cut} tokens of a document "
        "read whole ones: the change of the test accuracy against the same documents cut at "
        f"{study.cut} tokens, for documents longer than that. Below zero, reading on does harm. "
        f"Of two marks side by side the left one is the {study.cells[0].upper()}. Bars are 95 % "
        "intervals over seeds.",
    )


def _point(
    axes: Axes, place: float, value: Interval, style: dict[str, Any], label: str, vertical: bool
) -> None:
    if value.n == 0:
        return
    half = value.high - value.mean if math.isfinite(value.high) else 0.0
    x, y = (place, value.mean) if vertical else (value.mean, place)
    across, up = (None, half) if vertical else (half, None)
    axes.errorbar(x, y, up, across, label=label, capsize=2.5, markersize=6, **style)


CONDITIONS = {
    "accuracy_cut_population": "cut, statistics of the\ncut training documents",
    "accuracy_again": "first tokens over and over",
    "accuracy_again_population": "first tokens over and over,\nstatistics of such documents",
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
    drawn, panels = _panels([f"{corpus}, {cell.upper()}" for corpus, cell in grid], 4.8, 2)
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
        axes.set_xlabel("change, points")
        if axes not in panels[:: min(2, len(grid))]:
            axes.set_yticklabels([])
    _legend(drawn, panels)
    return Picture(
        "causes",
        drawn,
        f"What the loss on documents longer than the {study.cut} tokens of training comes from, "
        f"with {pooling} pooling: each line runs the same trained networks in another way, and "
        "shows the change of accuracy against the same documents cut. First a control, new "
        "statistics for the cut documents, which should change nothing; then as many steps as the "
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
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    return Picture(
        "sites",
        drawn,
        "The same loss for networks that were trained with BatchNorm at some of its sites only, "
        f"{of['pooling']} pooling, at the learning rate chosen for all sites. The further left of "
        "zero, the more is lost; a site without which less is lost has a part in the loss. Bars "
        "are 95 % intervals over seeds.",
    )


SHORT = {
    "input": "input only",
    "hidden": "recurrent part only",
    "cell": "cell state only",
    "no_cell": "all but the cell state",
}


def _cost(study: Settings, table: Table) -> Picture:
    drawn, panels = _panels(["seconds of a training step", "numbers kept for a layer"], 3.6, 2)
    of = {"part": "cost", "cell": study.cells[0]}
    found: list[tuple[Axes, str, bool, dict[str, Interval]]] = []
    for number, label in enumerate(("longest document cut", "longest document whole")):
        values = {}
        for norm in study.norms:
            seconds = _curves(table, "seconds", norm=norm, **of)
            if len(seconds) == 2:
                values[norm] = interval(seconds[sorted(seconds)[number]])
        found.append((panels[0], label, number == 1, values))
    for measure, label in (("parameters", "parameters"), ("table_bytes", "running statistics")):
        # Four bytes are a number.
        values = {
            norm: interval(measured(table, measure, norm=norm, **of).values()).scaled(
                0.25 if measure == "table_bytes" else 1.0
            )
            for norm in study.norms
        }
        found.append((panels[1], label, measure == "table_bytes", values))
    for axes, label, filled, values in found:
        for place, norm in enumerate(study.norms):
            if norm in values and values[norm].mean > 0:
                style = STYLES[norm] | {
                    "linestyle": "",
                    "color": "black",
                    "marker": "o" if filled else "D",
                    "fillstyle": "full" if filled else "none",
                }
                _point(axes, place, values[norm], style, label, vertical=True)
    names = [NAMES[norm].replace(", pooled over time", "\npooled") for norm in study.norms]
    for axes in panels:
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_xlim(-0.5, len(names) - 0.5)
        if axes.containers:
            axes.set_yscale("log")
    _legend(drawn, panels, 2)
    return Picture(
        "cost",
        drawn,
        "Left: the time of a training step on a batch whose longest document is cut like the "
        "others, and on the same with that document whole, on one core of the machine that made "
        f"the runs. Right: parameters of one {study.cells[0].upper()} layer, and the running "
        "means and variances of all steps that such a document has. Heights are logarithmic. "
        "Norms without statistics of the batch keep none.",
    )
