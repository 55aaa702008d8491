"""What the table of the study of dynamic networks says, with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Protocol

from seqnorm.studies.evidence import Finding, Interval, interval, paired
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table, Value

POINTS = "points"
# Other ways to run or to read the same trained network, and what each of them changes.
REMEDIES = {
    "accuracy_population": "running statistics of every step from whole training documents",
    "accuracy_own": "statistics of every step from the test documents themselves",
    "accuracy_batch": "statistics of the batch in test",
    "accuracy_bias": "biases of the head fitted anew to whole training documents",
    "accuracy_head": "head fitted anew to whole training documents",
}
STATISTICS = tuple(REMEDIES)[:3]


class Settings(Protocol):
    """What is needed of the study."""

    @property
    def corpora(self) -> tuple[str, ...]: ...
    @property
    def tails(self) -> tuple[str, ...]: ...
    @property
    def cells(self) -> tuple[str, ...]: ...
    @property
    def norms(self) -> tuple[str, ...]: ...
    @property
    def poolings(self) -> tuple[str, ...]: ...
    @property
    def variants(self) -> tuple[str, ...]: ...
    @property
    def cut(self) -> int: ...
    @property
    def bounds(self) -> tuple[int, ...]: ...


def measured(table: Table, measure: str, **setting: Value) -> dict[int, float]:
    """A measure of reported runs by seed; without a variant unless one is asked for."""
    return table.where(**{"stage": "run", "variant": None, **setting}).by_seed(measure)


def difference(table: Table, a: str, b: str, **setting: Value) -> dict[int, float]:
    """Measure a minus measure b of the same runs, by seed."""
    first, second = measured(table, a, **setting), measured(table, b, **setting)
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def loss_of(table: Table, **setting: Value) -> dict[int, float]:
    """Accuracy on whole documents minus that on the same documents cut, by seed."""
    return difference(table, "accuracy", "accuracy_cut", part="cut", **setting)


def rest_of(table: Table, **setting: Value) -> dict[int, float]:
    """What of ``loss_of`` a new head does not recover: both sides have a new head."""
    return difference(table, "accuracy_head", "accuracy_cut_head", part="cut", **setting)


def points(value: Interval) -> Interval:
    return value.scaled(100)


def grid_of(study: Settings, pooling: str) -> list[tuple[str, str]]:
    """(corpus, cell) of the networks with that pooling: the first pooling has all cells, the
    others the first cell."""
    cells = study.cells if pooling == study.poolings[0] else study.cells[:1]
    return list(product(study.corpora, cells))


def findings(study: Settings, table: Table) -> list[Finding]:
    """All findings: those of ``headlines`` first, the others in the order of the study's parts."""
    found = [
        *_of_rows(study, table),
        *_of_whole(study, table),
        *_of_cut(study, table),
        *_of_causes(study, table),
    ]
    places = {what: place for place, what in enumerate(headlines(study))}
    found = [replace(finding, key=finding.what in places) for finding in found]
    return sorted(found, key=lambda finding: places.get(finding.what, len(places)))


def headlines(study: Settings) -> list[str]:
    """What answers the question, of the first cell and pooling, for every corpus: whether late
    steps have worse statistics, whether that costs accuracy, what becomes of longer documents, and
    whether right statistics help."""
    cell, pooling, told = study.cells[0].upper(), study.poolings[0], []
    for corpus in study.corpora:
        where = f"{corpus}, {cell}, {pooling} pooling"
        told += [
            f"{GROWTH}, running statistics, {corpus}, {cell}",
            f"accuracy beyond {study.bounds[-1]} tokens, BatchNorm minus LayerNorm, {where}",
            f"{_whole_minus_cut(study)}, BatchNorm, {where}",
            f"{_whole_minus_cut(study)}, BatchNorm's change minus LayerNorm's, {where}",
            f"what whole documents gain by {REMEDIES['accuracy_own']}, BatchNorm, {where}",
        ]
    return told


GROWTH = "relative error of a step's variance, growth over 100 steps"


def _whole_minus_cut(study: Settings) -> str:
    return f"trained on {study.cut} tokens: accuracy on whole documents minus the same cut"


def _of_rows(study: Settings, table: Table) -> Iterator[Finding]:
    for corpus in study.tails:
        alone = measured(table, "alone_4", part="rows", corpus=corpus)
        yield Finding(
            f"share of tokens alone at their step, {corpus}, batches of 4",
            interval(100 * share for share in alone.values()),
            "%",
            1,
        )


def _of_whole(study: Settings, table: Table) -> Iterator[Finding]:
    longest = len(study.bounds)
    for corpus, cell in grid_of(study, study.poolings[0]):
        of = {"part": "whole", "corpus": corpus, "cell": cell, "pooling": study.poolings[0]}
        for name, what in (("running", "running statistics"), ("64", "a batch of 64")):
            yield Finding(
                f"{GROWTH}, {what}, {corpus}, {cell.upper()}",
                interval(measured(table, f"slope_{name}", norm="batch", **of).values()),
                "",
                1,
            )
        late = difference(table, "error_late", "error_early", norm="batch", **of)
        yield Finding(
            f"relative error of a step's running variance, the last {study.cut} steps minus the "
            f"first, {corpus}, {cell.upper()}",
            interval(late.values()),
            "",
            1,
        )
        first, last = (
            measured(table, f"rows_{name}", norm="batch", **of) for name in ("first", "last")
        )
        yield Finding(
            f"rows that the last step's running statistics have seen, of the first's, {corpus}, "
            f"{cell.upper()}",
            interval(100 * last[seed] / rows for seed, rows in first.items()),
            "%",
        )
    for pooling in study.poolings:
        for corpus, cell in grid_of(study, pooling):
            of = {"part": "whole", "corpus": corpus, "cell": cell, "pooling": pooling}
            where = f"{corpus}, {cell.upper()}, {pooling} pooling"
            for measure, what in (
                ("accuracy", "accuracy on whole documents"),
                (f"length_{longest}", f"accuracy beyond {study.bounds[-1]} tokens"),
            ):
                batch = measured(table, measure, norm="batch", **of)
                layer = measured(table, measure, norm="layer", **of)
                yield Finding(
                    f"{what}, BatchNorm minus LayerNorm, {where}",
                    points(paired(batch, layer)),
                    POINTS,
                    -1,
                )
            cost = difference(table, "accuracy", "accuracy_population", norm="batch", **of)
            yield Finding(
                f"accuracy with running statistics minus that with the population's, {where}",
                points(interval(cost.values())),
                POINTS,
                -1,
            )


def _of_cut(study: Settings, table: Table) -> Iterator[Finding]:
    grid = [(*pair, pooling) for pooling in study.poolings for pair in grid_of(study, pooling)]
    for corpus, cell, pooling in grid:
        of = {"corpus": corpus, "cell": cell, "pooling": pooling}
        where = f"{corpus}, {cell.upper()}, {pooling} pooling"
        losses = {norm: loss_of(table, norm=norm, **of) for norm in ("batch", "layer")}
        for norm, loss in losses.items():
            yield Finding(
                f"{_whole_minus_cut(study)}, {NAMES[norm]}, {where}",
                points(interval(loss.values())),
                POINTS,
                -1 if norm == "batch" else 0,
            )
        yield Finding(
            f"{_whole_minus_cut(study)}, BatchNorm's change minus LayerNorm's, {where}",
            points(paired(losses["batch"], losses["layer"])),
            POINTS,
            -1,
        )


def _of_causes(study: Settings, table: Table) -> Iterator[Finding]:
    pooling, cell = study.poolings[0], study.cells[0]
    for corpus in study.corpora:
        of = {"part": "cut", "norm": "batch", "corpus": corpus, "cell": cell, "pooling": pooling}
        where = f"{corpus}, {cell.upper()}, {pooling} pooling"
        yield Finding(
            f"as many steps as the whole document, its first {study.cut} tokens over and over, "
            f"minus these once, BatchNorm, {where}",
            points(interval(difference(table, "accuracy_again", "accuracy_cut", **of).values())),
            POINTS,
            -1,
        )
        tail = difference(table, "accuracy_tail", "accuracy_cut", **of)
        yield Finding(
            f"the last {study.cut} tokens alone minus the first, BatchNorm, {where}",
            points(interval(tail.values())),
            POINTS,
        )
        own = difference(table, "accuracy_again_population", "accuracy_again", **of)
        yield Finding(
            "first tokens over and over: each step's own statistics minus those of the last "
            f"trusted step, {where}",
            points(interval(own.values())),
            POINTS,
            1,
        )
        for measure, what in REMEDIES.items():
            gain = difference(table, measure, "accuracy", **of)
            yield Finding(
                f"what whole documents gain by {what}, BatchNorm, {where}",
                points(interval(gain.values())),
                POINTS,
                1 if measure in STATISTICS else 0,
            )
        for site, what in (("input", "W x"), ("cell", "the cell state")):
            for measure, name in (("shift", "mean"), ("ratio", "standard deviation")):
                moved = measured(table, f"{measure}_{site}", **of)
                yield Finding(
                    f"how far the {name} of {what} has moved at steps beyond {study.cut}, in "
                    f"standard deviations there, BatchNorm, {where}",
                    interval(value - (measure == "ratio") for value in moved.values()),
                    "",
                )
        of.pop("part")
        yield Finding(
            f"what a new head does not give back, BatchNorm, {where}",
            points(interval(rest_of(table, **of).values())),
            POINTS,
        )
        layer = rest_of(table, **{**of, "norm": "layer"})
        yield Finding(
            f"what a new head does not give back, BatchNorm minus LayerNorm, {where}",
            points(paired(rest_of(table, **of), layer)),
            POINTS,
            -1,
        )
    of = {"norm": "batch", "corpus": study.corpora[0], "cell": study.cells[0], "pooling": pooling}
    every = loss_of(table, **of)
    for variant in study.variants:
        yield Finding(
            f"loss on whole documents of BatchNorm {SITES_TEXT[variant]} minus that at all sites",
            points(paired(loss_of(table, **of, variant=variant), every)),
            POINTS,
        )


SITES_TEXT = {
    "input": "at the input alone",
    "hidden": "at the recurrent part alone",
    "cell": "at the cell state alone",
    "no_cell": "everywhere but at the cell state",
}
