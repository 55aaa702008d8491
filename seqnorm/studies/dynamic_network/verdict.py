"""The verdict of the study of dynamic networks: sentences chosen by the intervals of its table."""

from __future__ import annotations

import math

from seqnorm.studies.evidence import Interval, interval, paired
from seqnorm.studies.table import Table

from .findings import (
    REMEDIES,
    SITES_TEXT,
    STATISTICS,
    Settings,
    difference,
    grid_of,
    loss_of,
    measured,
    points,
    rest_of,
)


def said(value: Interval) -> str:
    """In points, ``-3.1 (-4.2 to -2.0)``."""
    value = points(value)
    if value.n < 2:
        return "(too few runs to say)"
    return f"{value.mean:+.1f} ({value.low:+.1f} to {value.high:+.1f})"


def verdict(study: Settings, table: Table) -> str:
    """The answer, in sentences chosen by the intervals."""
    paragraphs = [
        [_statistics(study, table), _trained_on_whole(study, table)],
        [_longer(study, table, pooling) for pooling in study.poolings],
        *([_explained(study, table, corpus)] for corpus in study.corpora),
        [_sites(study, table), _long_document(study, table)],
    ]
    joined = (" ".join(filter(None, sentences)) for sentences in paragraphs)
    return "\n\n".join(filter(None, joined))


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
            f"With {what} a step's variance is shown to get worse over the steps in {signs[1]} of "
            f"{len(grown)} settings of corpus and cell, better in {signs[-1]}."
        )
    return " ".join(texts)


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
        f"{signs[1]}, and neither is shown in {signs[0]}. In test, running statistics are worse "
        f"than the population's in {of_cost[-1]}, better in {of_cost[1]}."
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
        f"corpus and cell, better in {signs[1]}. It loses more than LayerNorm in {of_more[-1]}, "
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
    signs = {gains[measure].sign for measure in STATISTICS}
    if 1 in signs:
        statistics = "Statistics explain a part of it"
    elif signs == {-1}:
        statistics = "Other statistics, even those of the test documents themselves, add to it"
    else:
        statistics = (
            "No statistics, not even those of the test documents themselves, are shown to help"
        )
    head = gains["accuracy_head"].sign > 0
    misread = ", which the state still held and the head misread" if head else ""
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
        f"{said(gains['accuracy_head'])}{misread}. {_rest(rest)}"
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
        for name in ("table_bytes", "parameters", "alone_long", "updated_steps", "padded_bytes")
    }
    if any(math.isnan(value) for value in found.values()):
        return ""
    times = found["table_bytes"] / 4 / found["parameters"]
    return (
        f"A batch with the longest document takes {found['padded_bytes'] / 1e6:.0f} MB when "
        f"padded, and {100 * found['alone_long']:.0f} % of its tokens stand alone at their step; "
        f"BatchNorm's tables for so many steps hold {times:.0f} times as many numbers as the layer "
        f"has parameters, and {found['updated_steps']:.0f} steps of them get statistics from it."
    )
