"""What the table of the study of dynamic networks says, with its uncertainty, and the verdict."""

from __future__ import annotations

import math
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
        losses = {norm: loss_of(table, norm=norm, **of) for norm in ("batch", "layer")}
        for norm, loss in losses.items():
            yield Finding(
                f"trained on {study.cut} tokens: whole documents minus the same cut, "
                f"{NAMES[norm]}, {where}",
                points(interval(loss.values())),
                POINTS,
                -1 if norm == "batch" else 0,
            )
        yield Finding(
            f"of this, BatchNorm minus LayerNorm, {where}",
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
    """In points, ``-3.1 (-4.2 to -2.0)``."""
    value = points(value)
    if value.n < 2:
        return "(too few runs to say)"
    return f"{value.mean:+.1f} ({value.low:+.1f} to {value.high:+.1f})"


def verdict(study: Settings, table: Table) -> str:
    """The answer, in sentences chosen by the intervals."""
    sentences = [
        _statistics(study, table),
        _trained_on_whole(study, table),
        *(_longer(study, table, pooling) for pooling in study.poolings),
        *(_explained(study, table, corpus) for corpus in study.corpora),
        _sites(study, table),
        _long_document(study, table),
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
    batch, more = [], []
    grid = grid_of(study, pooling)
    for corpus, cell in grid:
        of = {"corpus": corpus, "cell": cell, "pooling": pooling}
        found, layer = (loss_of(table, norm=norm, **of) for norm in ("batch", "layer"))
        batch.append(interval(found.values()))
        more.append(paired(found, layer))
    signs, of_more = _signs(batch), _signs(more)
    return (
        f"Trained on {study.cut} tokens, with {pooling} pooling, BatchNorm is worse on whole "
        f"documents than on the same documents cut in {signs[-1]} of {len(grid)} settings of "
        f"corpus and cell, better in {signs[1]}; it loses more than LayerNorm in {of_more[-1]}, "
        f"less in {of_more[1]}."
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
    again, tail = (
        interval(difference(table, measure, "accuracy_cut", part="cut", **of).values())
        for measure in ("accuracy_again", "accuracy_tail")
    )
    steps = "costs" if again.sign < 0 else "is not shown to cost anything"
    helped = any(gains[measure].sign > 0 for measure in STATISTICS)
    statistics = (
        "Statistics explain a part of it"
        if helped
        else "No statistics, not even those of the test documents themselves, are shown to help"
    )
    layer = interval(loss_of(table, **(of | {"norm": "layer"})).values())
    rest = interval(rest_of(table, **of).values())
    return (
        f"{start} the loss is {said(loss)} points with BatchNorm, {said(layer)} with LayerNorm. "
        f"The number of steps alone {steps}: the first {study.cut} tokens over and over make "
        f"{said(again)}. The last {study.cut} tokens alone, for which all statistics are there, "
        f"make {said(tail)}. {statistics}: those of whole training documents give back "
        f"{said(gains['accuracy_population'])}, the test documents' own "
        f"{said(gains['accuracy_own'])}, the batch's in test {said(gains['accuracy_batch'])}. New "
        f"biases of the head give back {said(gains['accuracy_bias'])}, a new head "
        f"{said(gains['accuracy_head'])}: so much the state still held, and the head misread. "
        f"{_rest(rest)}"
    )


def _rest(rest: Interval) -> str:
    if rest.sign < 0:
        return f"The rest, {said(rest)} points beside a new head on documents cut, is unexplained."
    return f"No rest is shown: {said(rest)} points beside a new head on documents cut."


def _sites(study: Settings, table: Table) -> str:
    of = {
        "norm": "batch",
        "corpus": study.corpora[0],
        "cell": study.cells[0],
        "pooling": study.poolings[0],
    }
    every = loss_of(table, **of)
    if not study.variants or interval(every.values()).sign >= 0:
        return ""
    found = [
        f"{SITES_TEXT[variant]} {said(interval(loss.values()))}"
        + (", which is less" if paired(loss, every).sign > 0 else "")
        for variant in study.variants
        if (loss := loss_of(table, **of, variant=variant))
    ]
    if not found:
        return ""
    return f"Trained with BatchNorm at some sites only, the change is {'; '.join(found)}."


def _long_document(study: Settings, table: Table) -> str:
    of = {"part": "cost", "norm": "batch", "cell": study.cells[0]}
    found = {
        name: interval(measured(table, name, **of).values()).mean
        for name in ("table_bytes", "parameters", "alone_long", "updated_steps")
    }
    if any(math.isnan(value) for value in found.values()):
        return ""
    times = found["table_bytes"] / 4 / found["parameters"]
    return (
        f"In a batch with the longest document, {100 * found['alone_long']:.0f} % of the tokens "
        f"stand alone at their step; BatchNorm's tables for so many steps hold {times:.0f} times "
        f"as many numbers as the layer has parameters, and {found['updated_steps']:.0f} steps of "
        "them get statistics from it."
    )
