"""What the table of the study of dynamic networks says, with its uncertainty, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Protocol

from .evidence import Finding, Interval, interval, paired
from .figures import NAMES
from .table import Table, Value

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
    """All findings, in the order of the study's parts."""
    return [
        *_of_rows(study, table),
        *_of_whole(study, table),
        *_of_cut(study, table),
        *_of_causes(study, table),
    ]


def _of_rows(study: Settings, table: Table) -> Iterator[Finding]:
    for corpus, size in product(study.tails, (64, 4)):
        alone = measured(table, f"alone_{size}", part="rows", corpus=corpus)
        yield Finding(
            f"share of tokens alone at their step, {corpus}, batches of {size}",
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
                f"relative error of a step's variance, growth over 100 steps, {what}, {corpus}, "
                f"{cell.upper()}",
                interval(measured(table, f"slope_{name}", norm="batch", **of).values()),
                "",
                1,
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
        losses = {norm: loss_of(table, norm=norm, **of) for norm in study.norms}
        for norm, loss in losses.items():
            if norm in ("batch", "layer", "none"):
                yield Finding(
                    f"trained on {study.cut} tokens: whole documents minus the same cut, "
                    f"{NAMES[norm]}, {where}",
                    points(interval(loss.values())),
                    POINTS,
                    -1 if norm == "batch" else 0,
                )
        for norm in ("layer", "none"):
            if "batch" in losses and norm in losses:
                yield Finding(
                    f"of this, BatchNorm minus {NAMES[norm]}, {where}",
                    points(paired(losses["batch"], losses[norm])),
                    POINTS,
                    -1,
                )


def _of_causes(study: Settings, table: Table) -> Iterator[Finding]:
    pooling = study.poolings[0]
    for corpus, cell in product(study.corpora, study.cells):
        of = {"part": "cut", "norm": "batch", "corpus": corpus, "cell": cell, "pooling": pooling}
        where = f"{corpus}, {cell.upper()}, {pooling} pooling"
        yield Finding(
            f"as many steps as the whole document, its first {study.cut} tokens over and over, "
            f"minus these once, BatchNorm, {where}",
            points(interval(difference(table, "accuracy_again", "accuracy_cut", **of).values())),
            POINTS,
            -1,
        )
        own = difference(table, "accuracy_again_population", "accuracy_again", **of)
        yield Finding(
            f"the same with each step's own statistics instead of the last trusted step's, {where}",
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
        of.pop("part")
        yield Finding(
            f"what a new head does not give back, BatchNorm, {where}",
            points(interval(rest_of(table, **of).values())),
            POINTS,
        )
        layer = rest_of(table, **{**of, "norm": "layer"})
        yield Finding(
            f"of this, BatchNorm minus LayerNorm, {where}",
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


def said(value: Interval) -> str:
    """``-3.1 (-4.2 to -2.0)``."""
    if value.n < 2:
        return "not known, for there are too few runs"
    return f"{value.mean:+.1f} ({value.low:+.1f} to {value.high:+.1f})"


def verdict(study: Settings, table: Table) -> str:
    """The answer, in sentences chosen by the intervals."""
    sentences = [
        _statistics(study, table),
        _trained_on_whole(study, table),
        *(_longer(study, table, pooling) for pooling in study.poolings),
        *(_explained(study, table, corpus) for corpus in study.corpora),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _signs(intervals: list[Interval]) -> dict[int, int]:
    signs = [i.sign for i in intervals]
    return {sign: signs.count(sign) for sign in (-1, 0, 1)}


def _statistics(study: Settings, table: Table) -> str:
    pooling, texts = study.poolings[0], []
    for name, what in (("running", "running statistics"), ("64", "statistics of one batch of 64")):
        grown = [
            interval(
                measured(
                    table,
                    f"slope_{name}",
                    part="whole",
                    corpus=corpus,
                    cell=cell,
                    norm="batch",
                    pooling=pooling,
                ).values()
            )
            for corpus, cell in grid_of(study, pooling)
        ]
        signs = _signs(grown)
        texts.append(
            f"of {what} it is shown to grow in {signs[1]} of {len(grown)} settings of corpus "
            f"and cell, to fall in {signs[-1]}"
        )
    return f"The error of a step's variance over the steps: {'; '.join(texts)}."


def _trained_on_whole(study: Settings, table: Table) -> str:
    found, cost = [], []
    for pooling in study.poolings:
        for corpus, cell in grid_of(study, pooling):
            of = {"part": "whole", "corpus": corpus, "cell": cell, "pooling": pooling}
            measure = f"length_{len(study.bounds)}"
            batch = measured(table, measure, norm="batch", **of)
            found.append(paired(batch, measured(table, measure, norm="layer", **of)))
            true = difference(table, "accuracy", "accuracy_population", norm="batch", **of)
            cost.append(interval(true.values()))
    signs, of_cost = _signs(found), _signs(cost)
    return (
        f"Trained on whole documents, BatchNorm is worse than LayerNorm beyond {study.bounds[-1]} "
        f"tokens in {signs[-1]} of {len(found)} settings of corpus, cell and pooling, better in "
        f"{signs[1]}, neither shown in {signs[0]}; in test, running statistics are worse than "
        f"the population's in {of_cost[-1]}, better in {of_cost[1]}."
    )


def _longer(study: Settings, table: Table, pooling: str) -> str:
    parts, more = [], []
    grid = grid_of(study, pooling)
    for corpus, cell in grid:
        of = {"corpus": corpus, "cell": cell, "pooling": pooling}
        batch, layer = (loss_of(table, norm=norm, **of) for norm in ("batch", "layer"))
        more.append(paired(batch, layer))
        parts.append(
            f"{said(points(interval(batch.values())))} with BatchNorm and "
            f"{said(points(interval(layer.values())))} with LayerNorm ({corpus}, {cell.upper()})"
        )
    signs = _signs(more)
    return (
        f"Trained on {study.cut} tokens, with {pooling} pooling, accuracy on whole documents "
        f"differs from that on the same documents cut by, in points, {'; '.join(parts)}: "
        f"BatchNorm comes out worse than LayerNorm in {signs[-1]} of {len(grid)}, better in "
        f"{signs[1]}."
    )


def _explained(study: Settings, table: Table, corpus: str) -> str:
    cell, pooling = study.cells[0], study.poolings[0]
    of = {"corpus": corpus, "cell": cell, "norm": "batch", "pooling": pooling}
    loss = interval(loss_of(table, **of).values())
    start = f"On {corpus} ({cell.upper()}, {pooling} pooling)"
    if loss.sign >= 0:
        return f"{start} no loss of BatchNorm is shown, so there is nothing to explain."
    gains = {
        measure: interval(difference(table, measure, "accuracy", part="cut", **of).values())
        for measure in REMEDIES
    }
    again = interval(difference(table, "accuracy_again", "accuracy_cut", part="cut", **of).values())
    steps = (
        "the number of steps alone costs"
        if again.sign < 0
        else "the number of steps alone is not shown to cost anything:"
    )
    helped = [m for m in STATISTICS if gains[m].sign > 0]
    statistics = (
        "the statistics explain a part of it"
        if helped
        else "no statistics, not even those of the test documents themselves, are shown to help"
    )
    rest = points(interval(rest_of(table, **of).values()))
    return (
        f"{start} {steps} {said(points(again))}; {statistics}: given those of whole training "
        f"documents BatchNorm gains {said(points(gains['accuracy_population']))}, given the test "
        f"documents' own {said(points(gains['accuracy_own']))}, given the batch's "
        f"{said(points(gains['accuracy_batch']))}. Fitting the head's biases anew gives back "
        f"{said(points(gains['accuracy_bias']))}, the whole head "
        f"{said(points(gains['accuracy_head']))}: so much was in the state still, and only read "
        f"wrongly. {said(rest)} remain that nothing here explains."
    )
