"""The figures of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqnorm.studies.evidence import interval
from seqnorm.studies.figures import NAMES, STYLES, draw_line, figure, tidy
from seqnorm.studies.study import Picture
from seqnorm.studies.table import Table

from .judging import RIVALS, THINGS, numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_READ = (
    "Every point is the mean over runs with different random numbers, its bar the 95 % confidence "
    "interval."
)
_WHAT = {
    "images": "a convolutional network that reads digits on photographs",
    "text": "an LSTM that sorts newswire (Reuters R8) into eight topics",
}

_RATES = {
    "images": "The learning rate is chosen for every norm at the largest batch and falls in "
    "proportion to the batch.",
    "text": "The learning rate is chosen for every norm and batch.",
}


def pictures(table: Table) -> list[Picture]:
    """Of the reported runs."""
    return [_batches(table, "images"), _batches(table, "text"), _ghosts(table), _online(table)]


def _norms(rows: Table) -> list[str]:
    return [norm for norm in STYLES if rows.where(norm=norm).rows]


def _axis(axes: Axes, sizes: list[int], label: str) -> None:
    axes.set_xscale("log", base=2)
    if sizes:
        axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.invert_xaxis()  # large batches first, as Wu & He 2018 draw it
    axes.set_xlabel(label)
    tidy(axes)


def _percent(values: dict[int, float]) -> dict[int, float]:
    return {seed: 100 * value for seed, value in values.items()}


def _batches(table: Table, part: str) -> Picture:
    rows = table.where(part=part)
    sizes = [size for size in numbers(rows, "batch") if size > 1]
    drawn = figure(7.6, 3.7)
    left, right = drawn.subplots(1, 2)
    for norm in _norms(rows):
        of_norm = {size: rows.where(norm=norm, batch=size) for size in sizes}
        draw_line(left, {s: _percent(r.by_seed("error")) for s, r in of_norm.items()}, norm)
        draw_line(right, {s: r.by_seed("loss") for s, r in of_norm.items()}, norm)
    fresh: dict[float, dict[int, float]] = {
        s: _percent(rows.where(norm="batch", batch=s).by_seed("error_reestimated")) for s in sizes
    }
    again = {"linestyle": "--", "markerfacecolor": "white"}
    draw_line(left, fresh, "batch", "BatchNorm, statistics taken anew", **again)
    left.set_ylabel("test error, %")
    right.set_ylabel("training loss, last epoch")
    for axes in (left, right):
        _axis(axes, sizes, f"{THINGS[part]} in a batch")
    _clip(left, 0, 100)
    _clip(right, 0, float("inf"))
    _legend(drawn, left)
    caption = (
        f"Test error (left) and training loss (right) of {_WHAT[part]}, over the size of the "
        f"batch, from large to small; lower is better. {_READ} Dashed: the same BatchNorm networks "
        "with mean and variance taken from all training data after training; where this is lower "
        "than the solid line, running averages were at fault, what remains is noise in training. "
        "Norms within one example do not know the batch: if a line of theirs moves, the optimiser "
        f"moves it. {_RATES[part]}"
    )
    return Picture(part, drawn, caption)


def _legend(drawn: Figure, *panels: Axes) -> None:
    found = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())
    }
    if found:
        drawn.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=2, frameon=False
        )


def _clip(axes: Axes, low: float, high: float) -> None:
    """No axis beyond what can be, however wide the interval of two runs is."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low), min(top, high))


def _level(axes: Axes, values: dict[int, float], norm: str, label: str) -> None:
    """A line over the whole panel at the mean of what has no groups, its interval as a band."""
    if not values:
        return
    found = interval(values.values())
    colour = STYLES[norm]["color"]
    axes.axhline(found.mean, color=colour, linestyle="-.", label=label)
    if found.n > 1:
        axes.axhspan(found.low, found.high, color=colour, alpha=0.15, linewidth=0)


def _ghosts(table: Table) -> Picture:
    drawn = figure(7.6, 3.9)
    panels: list[Axes] = []
    for axes, (part, rival) in zip(drawn.subplots(1, 2), RIVALS.items()):
        ghosts = table.where(part=f"{part}_ghost")
        rows = table.where(part=part)
        batch = next(iter(numbers(ghosts, "batch")), None)
        whole = rows.where(norm="batch", batch=batch)
        groups = {g: ghosts.where(group=g) for g in numbers(ghosts, "group")}
        if batch is not None:
            groups = {batch: whole} | groups
        draw_line(
            axes,
            {g: _percent(r.by_seed("error")) for g, r in groups.items()},
            "batch",
            "BatchNorm, groups of a full batch",
        )
        small = {g: rows.where(norm="batch", batch=g) for g in groups}
        draw_line(
            axes,
            {g: _percent(r.by_seed("error")) for g, r in small.items()},
            "batch",
            "BatchNorm, batches of that size",
            linestyle=":",
            markerfacecolor="white",
        )
        constant = rows.where(norm=rival, batch=batch).by_seed("error")
        _level(axes, _percent(constant), rival, f"{NAMES[rival]}, full batch")
        _axis(axes, list(groups), f"{THINGS[part]} that share statistics")
        axes.set_ylabel("test error, %")
        axes.set_title(f"{part}, full batch {batch}" if batch else part, fontsize=10)
        _clip(axes, 0, 100)
        panels.append(axes)
    _legend(drawn, *panels)
    caption = (
        "Noise of statistics alone. Solid, round: the batch by which the network learns stays "
        "large, but BatchNorm takes mean and variance of groups of it, as small as the axis says "
        "(ghost batches). Dotted: batches that small throughout, where learning changes too. "
        f"Level line and band: a norm that has no groups, at the full batch. {_READ} If the solid "
        "line rises to the right, it is the statistics that do harm. Its learning rate is the one "
        "chosen for the full batch; that of the dotted line goes with the batch, so the two are "
        "not to be compared with each other."
    )
    return Picture("ghost", drawn, caption)


def _online(table: Table) -> Picture:
    drawn = figure(7.6, 3.4)
    for axes, part in zip(drawn.subplots(1, 2, width_ratios=(4, 4)), RIVALS):
        rows = table.where(part=part, batch=1)
        shown = [(NAMES[norm], norm, rows.where(norm=norm)) for norm in _norms(rows)]
        if (alone := table.where(part=f"{part}_one_row")).rows:
            shown.insert(1, ("BatchNorm of one row", "batch", alone))
        for place, (_, norm, found) in enumerate(shown):
            values = _percent(found.by_seed("error"))
            draw_line(axes, {float(place): values}, norm)
            axes.plot([place + 0.2] * len(values), list(values.values()), "k_", alpha=0.6)
        labels = [label.replace(" ", "\n", 1) for label, _, _ in shown]
        axes.set_xticks(range(len(shown)), labels, fontsize=8)
        axes.set_xlim(-0.5, max(len(shown), 1) - 0.5)
        axes.set_ylim(bottom=0)
        _clip(axes, 0, 100)
        axes.set_ylabel("test error, %")
        title = {"images": "one image at a time", "text": "one document at a time"}[part]
        axes.set_title(title, fontsize=10)
        tidy(axes)
    caption = (
        "Learning from one example at a time; lower is better. Marks: means with 95 % confidence "
        "intervals; dashes beside them: single runs. Of one image BatchNorm still takes statistics "
        "over its positions, so it learns as InstanceNorm does, but in use it has the averages of "
        "all images: two different networks of the same weights. A document has one row at each "
        'time step. Normalised by its own mean and variance ("BatchNorm of one row") that row is '
        'always 0, and nothing is left to learn from but the shifts. Plain "BatchNorm" is what '
        "this library does: it takes the running statistics, which no batch of one ever updates, "
        "so it does not normalise at all and scales by its gain."
    )
    return Picture("online", drawn, caption)
