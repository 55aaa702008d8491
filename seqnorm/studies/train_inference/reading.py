"""What is read off the table of the study of training's and inference's statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from seqnorm.studies import figures
from seqnorm.studies.evidence import Finding, Interval, interval, paired
from seqnorm.studies.study import Picture
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {  # in the order of the figure
    "batch1": "1 row",
    "batch4": "4 rows",
    "batch16": "16 rows",
    "batch64": "64 rows",
    "running": "running",
    "average": "average anew",
    "population": "population",
}
OF_BATCHES = 4  # so many of them, from the left
COMPANY = {"random": "random", "short": "all short", "long": "all long"}
OVER_BATCH = ("batch", "batch_pooled")


def findings(table: Table, sizes: Sequence[int]) -> list[Finding]:
    """Company, accuracy, running statistics, one row: at every batch size of training, those of
    BatchNorm of every step first."""
    runs = table.where(stage="run")
    found: list[Finding] = []

    def add(what: str, value: Interval, unit: str, expected: int, key: bool = False) -> None:
        if value.n:
            found.append(Finding(what, value, unit, expected, key))

    def first(norm: str, size: int) -> bool:
        return norm == "batch" and size == sizes[0]

    def company(norm: str, which: str) -> None:
        for size in sizes:
            what = f"answers changed by {COMPANY[which]} companions, batch {size}"
            difference = more_changed(runs, norm, which, size)
            key = which == "random" and first(norm, size)
            add(f"{what}, {figures.NAMES[norm]} - LayerNorm", difference, "points", 1, key)

    for norm in OVER_BATCH:
        name = figures.NAMES[norm]
        company(norm, "random")
        for size in sizes:
            what = f"test accuracy in inference, batch {size}, {name} - LayerNorm"
            add(what, more_accurate(runs, norm, size), "points", -1, first(norm, size))
        for size in sizes:
            what = f"test loss, running statistics - batches of {size}, trained at that, {name}"
            change = within(runs, norm, size, "loss_running", f"loss_batch{size}")
            add(what, change, "", 1, first(norm, size))
        for size in sizes:
            what = f"accuracy, running statistics - one row's, trained at batch {size}, {name}"
            gain = better(runs, norm, size, "running", "batch1")
            add(what, gain, "points", 1, first(norm, size))
        if norm == "batch":  # of the pooled one the story is the same: its sets are larger
            company(norm, "short")
            company(norm, "long")
            for size in sizes:
                what = f"test loss, running - population statistics, batch {size}, {name}"
                add(what, within(runs, norm, size, "loss_running", "loss_population"), "", 1)
            for size in sizes:
                what = f"accuracy, running - population statistics, batch {size}, {name}"
                add(what, better(runs, norm, size, "running", "population"), "points", -1)
    for norm in ("layer", *OVER_BATCH):
        moved = largest(runs, norm, ("running",) if norm in OVER_BATCH else tuple(COMPANY))
        what = f"largest change of a logit with the company, {figures.NAMES[norm]}"
        add(f"{what}, running statistics" if norm in OVER_BATCH else what, moved, "", 0)
    return found


def of(table: Table, norm: str, size: int, measure: str) -> dict[int, float]:
    """The measure by seed, of runs of one norm and batch size of training."""
    return table.where(norm=norm, batch=size).by_seed(measure)


def within(table: Table, norm: str, size: int, a: str, b: str) -> Interval:
    """One measure minus another, of the same runs."""
    return paired(of(table, norm, size, a), of(table, norm, size, b))


def better(table: Table, norm: str, size: int, a: str, b: str) -> Interval:
    """Points of accuracy by one kind of statistics, more than by another."""
    return within(table, norm, size, f"accuracy_{a}", f"accuracy_{b}").scaled(100)


def more_changed(table: Table, norm: str, company: str, size: int) -> Interval:
    """Points of documents that get another answer, more than with LayerNorm."""
    measure = f"changed_{company}_{size}"
    both = (of(table, name, size, measure) for name in (norm, "layer"))
    return paired(*both).scaled(100)


def more_accurate(table: Table, norm: str, size: int) -> Interval:
    """Points of test accuracy in inference, more than LayerNorm."""
    both = (of(table, name, size, "accuracy_running") for name in (norm, "layer"))
    return paired(*both).scaled(100)


def largest(table: Table, norm: str, companies: Iterable[str]) -> Interval:
    """Of the largest changes of a logit, those of the measures ``logit_<company>...``: a seed's
    is the largest of its runs of all batch sizes, which are not independent of each other."""
    starts = tuple(f"logit_{company}" for company in companies)
    by_seed: dict[int, float] = {}
    for row in table.where(norm=norm):
        seed = int(str(row["seed"]))
        for name, value in row.items():
            if name.startswith(starts) and isinstance(value, (int, float)):
                by_seed[seed] = max(by_seed.get(seed, 0.0), float(value))
    return interval(by_seed.values())


def verdict(table: Table, sizes: Sequence[int]) -> str:
    """What the findings come to, in sentences that follow from their signs."""
    runs = table.where(stage="run")
    if not len(runs.where(norm="batch")) or not len(runs.where(norm="layer")):
        return "There are no runs of BatchNorm and LayerNorm to compare yet."
    sizes = [size for size in sizes if len(runs.where(norm="batch", batch=size))]

    def at(value: Callable[[int], Interval], words: dict[int, str]) -> str:
        return by_sign({size: value(size).sign for size in sizes}, words)

    shares = {
        size: interval(of(runs, "batch", size, f"changed_random_{size}").values()).scaled(100).mean
        for size in sizes
    }
    listed = ", ".join(f"{share:.1f} % at batch {size}" for size, share in shares.items())
    moved = largest(runs, "layer", COMPANY)
    still = (
        "by not a single bit"
        if moved.mean == 0
        else f"by {moved.mean:.1e} a logit at most, on average over seeds"
    )
    order = {-1: "lower", 0: "not shown to differ", 1: "higher"}
    more = at(
        lambda size: more_changed(runs, "batch", "random", size),
        {1: "shown", 0: "not shown", -1: "refuted"},
    )
    alone = at(lambda size: better(runs, "batch", size, "batch1", "running"), order)
    beside_batch = at(
        lambda size: within(runs, "batch", size, "loss_running", f"loss_batch{size}"), order
    )
    beside_all = at(
        lambda size: within(runs, "batch", size, "loss_running", "loss_population"), order
    )
    accurate = at(lambda size: better(runs, "batch", size, "running", "population"), order)
    served = at(lambda size: more_accurate(runs, "batch", size), order)
    return (
        "With statistics of the batch, an answer depends on the company. BatchNorm names another "
        f"class for the same document, beside other random companions, in {listed} of cases; that "
        f"this is more than with LayerNorm is {more}. LayerNorm's answer changes {still}.\n\n"
        "A single row has no statistics of its own: BatchNorm's accuracy with those of one row, "
        f"against that with running statistics, is {alone}.\n\n"
        "Running statistics, which inference uses, know of no company. What they cost: against "
        f"statistics of batches as in training, BatchNorm's test loss is {beside_batch}; against "
        f"statistics of the whole training set its test loss is {beside_all}, its accuracy "
        f"{accurate}. Used so, its accuracy against LayerNorm's is {served}."
    )


def by_sign(signs: dict[int, int], words: dict[int, str]) -> str:
    """ "lower at batch 64 and 16, higher at batch 4"; one word alone if it holds at all."""
    if len(signs) > 1 and len(set(signs.values())) == 1:
        return f"{words[next(iter(signs.values()))]} at every batch size"
    parts = []
    for sign in dict.fromkeys(signs.values()):
        *before, last = [str(size) for size, found in signs.items() if found == sign]
        joined = f"{', '.join(before)} and {last}" if before else last
        parts.append(f"{words[sign]} at batch {joined}")
    return ", ".join(parts)


def pictures(table: Table, sizes: Sequence[int]) -> list[Picture]:
    """Loss by the kind of statistics, changed answers, the gap during training."""
    runs = table.where(stage="run")
    return [_kinds(runs, sizes), _company(runs, sizes), _gap(runs, sizes)]


def _norms(table: Table) -> list[str]:
    return [str(norm) for norm in table.distinct("norm")]


def _kinds(table: Table, sizes: Sequence[int]) -> Picture:
    from matplotlib.ticker import LogLocator, NullLocator

    figure = figures.figure(9.0, 4.2)
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    means: list[float] = []
    for axes, size in zip(panels, sizes):
        for norm in _norms(table):
            if norm not in OVER_BATCH:
                if found := of(table, norm, size, "loss_running"):
                    means.append(interval(found.values()).mean)
                    axes.axhline(
                        means[-1],
                        label=f"{figures.NAMES[norm]} (any company)",
                        **(figures.STYLES[norm] | {"marker": ""}),
                    )
                continue
            aside = 0.14 * OVER_BATCH.index(norm)
            places = {
                place + aside: of(table, norm, size, f"loss_{kind}")
                for place, kind in enumerate(KINDS)
            }
            means += [interval(found.values()).mean for found in places.values() if found]
            batches = {x: found for x, found in places.items() if x < OF_BATCHES - 0.5}
            others = {x: found for x, found in places.items() if x not in batches}
            figures.draw_line(axes, batches, norm)
            # No line where there is no order.
            figures.draw_line(axes, others, norm, label="_", linestyle="none")
        axes.axvline(OF_BATCHES - 0.45, color="0.6", linewidth=0.8)
        axes.set(yscale="log", title=f"trained in batches of {size}")
        axes.set_xticks(range(len(KINDS)), list(KINDS.values()), rotation=45, ha="right")
        figures.tidy(axes)
    if means:  # intervals of two seeds would hide all else
        panels[0].set_ylim(0.6 * min(means), 1.6 * max(means))
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("test loss (log scale)")
    _legend(figure, panels[0])
    return Picture(
        "statistics",
        figure,
        "One and the same set of weights, asked about the same test documents, gives other answers "
        "when BatchNorm takes mean and variance from elsewhere. Left of the grey line: from the "
        "batch in which the documents are asked, of 64, 16, 4 or a single row; right of it: from "
        "training, as running averages (the usual way in inference), or taken anew from training "
        "documents once the weights are final, averaged over batches or over all rows at once. "
        "Lower is better. LayerNorm and the network without a norm have nothing to choose: one "
        "line. Bars are 95 % intervals over seeds.",
    )


def _company(table: Table, sizes: Sequence[int]) -> Picture:
    figure = figures.figure(9.0, 3.6)
    panels = figure.subplots(1, len(COMPANY), sharey=True)
    order, tops = sorted(sizes), [0.0]
    for axes, (company, words) in zip(panels, COMPANY.items()):
        for norm in _norms(table):
            shares = {
                float(place): {
                    seed: 100 * value
                    for seed, value in of(table, norm, size, f"changed_{company}_{size}").items()
                }
                for place, size in enumerate(order)
            }
            figures.draw_line(axes, shares, norm)
            tops += [
                min(found.high, 1.5 * found.mean)
                for found in (interval(values.values()) for values in shares.values() if values)
            ]
        axes.set_xticks(range(len(order)), [str(size) for size in order])
        axes.set(title=f"new companions: {words}", xlabel="batch size, training and asking")
        figures.tidy(axes)
    panels[0].set_ylim(-0.5, max(tops) + 1)  # intervals of two seeds would hide all else
    panels[0].set_ylabel("answers changed, %")
    _legend(figure, panels[0])
    return Picture(
        "company",
        figure,
        "How often the class named for a document changes when nothing changes but the other "
        "documents in the batch, BatchNorm normalising by the batch as it does in training. Each "
        "document is asked twice: beside random companions, then beside other ones, random again "
        "(left), the shortest of the test documents (middle) or the longest (right). Beside short "
        "ones a longer document is soon alone in its batch, and a time step of a single row takes "
        "the running statistics. LayerNorm and "
        "the network without a norm look at one document at a time and lie at zero. Bars are 95 % "
        "intervals over seeds.",
    )


def _gap(table: Table, sizes: Sequence[int]) -> Picture:
    from matplotlib.ticker import NullLocator

    figure = figures.figure(9.0, 3.6)
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    means = [0.0]
    for axes, size in zip(panels, sizes):
        axes.axhline(0, color="0.6", linewidth=0.8)
        for norm in (norm for norm in _norms(table) if norm in (*OVER_BATCH, "layer")):
            gaps: dict[float, dict[int, float]] = {}
            for row in table.where(norm=norm, batch=size):
                served = dict(table.curve(row, "loss_running"))
                for x, trained in table.curve(row, "loss_batch"):
                    gaps.setdefault(x, {})[int(str(row["seed"]))] = served[x] - trained
            figures.draw_line(axes, gaps, norm)
            means += [interval(found.values()).mean for found in gaps.values()]
        axes.set(title=f"batches of {size}", xlabel="epochs of training")
        figures.tidy(axes)
    margin = 0.5 * (max(means) - min(means)) + 0.01
    panels[0].set_yscale("symlog", linthresh=0.1)  # early gaps are ten times those at the end
    panels[0].set_yticks([-1, -0.3, -0.1, -0.05, 0, 0.05, 0.1, 0.3, 1])
    panels[0].set_ylim(min(means) - margin, max(means) + margin)
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("test loss,\nrunning - batch statistics")
    _legend(figure, panels[0])
    return Picture(
        "gap",
        figure,
        "The gap between the two functions that BatchNorm makes of the same weights, while it is "
        "trained: test loss by running statistics, as in inference, minus test loss by statistics "
        "of batches as large as in training. Above zero inference is worse than what was trained, "
        "below zero it is better; at zero, where LayerNorm lies by construction, the two agree. "
        "Beyond 0.1 to both sides the axis is logarithmic. "
        "Bars are 95 % intervals over seeds.",
    )


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
