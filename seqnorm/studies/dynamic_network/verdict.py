"""Findings and claims of the study of dynamic networks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from seqnorm.studies.evidence import Finding, Seeds, interval
from seqnorm.studies.figures import NAMES
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import DynamicNetwork

# Other ways to run or to read the same trained network, the prediction for each, and its words.
REMEDIES = {
    "accuracy_population": (1, "running statistics of every step from whole training documents"),
    "accuracy_own": (1, "statistics of every step from the test documents themselves"),
    "accuracy_batch": (1, "statistics of the batch in test"),
    "accuracy_bias": (0, "biases of the head fitted anew to whole training documents"),
    "accuracy_head": (0, "head fitted anew to whole training documents"),
}
SITE_WORDS = {
    "input": "at the input alone",
    "hidden": "at the recurrent part alone",
    "cell": "at the cell state alone",
    "no_cell": "everywhere but at the cell state",
}


class Networks(NamedTuple):
    """Reported runs of one corpus, cell and pooling; their accuracies are in percent."""

    runs: Table
    corpus: str
    cell: str
    pooling: str

    def __str__(self) -> str:
        return f"{self.corpus}, {self.cell.upper()}, {self.pooling} pooling"

    def measured(self, part: str, measure: str, norm: str, variant: str | None = None) -> Seeds:
        of = {"corpus": self.corpus, "cell": self.cell, "pooling": self.pooling}
        found = self.runs.by_seed(measure, part=part, norm=norm, variant=variant, **of)
        return 100 * found if measure.startswith(("accuracy", "length")) else found

    def whole(self, measure: str, norm: str = "batch") -> Seeds:
        """Return a measure of networks that were trained on whole documents."""
        return self.measured("whole", measure, norm)

    def beside_layer(self, measure: str) -> Seeds:
        """Return a measure of BatchNorm minus that of LayerNorm, on whole documents."""
        return self.whole(measure) - self.whole(measure, "layer")

    def population(self) -> Seeds:
        """Return the accuracy by running statistics minus that by those of all documents."""
        return self.whole("accuracy") - self.whole("accuracy_population")

    def cut(self, measure: str, norm: str = "batch", variant: str | None = None) -> Seeds:
        """Return a measure of networks that were trained on the beginnings of documents."""
        return self.measured("cut", measure, norm, variant)

    def change(self, norm: str = "batch", variant: str | None = None) -> Seeds:
        """Return the accuracy on whole documents minus that on the same documents cut."""
        return self.cut("accuracy", norm, variant) - self.cut("accuracy_cut", norm, variant)

    def more(self) -> Seeds:
        """Return the change of BatchNorm minus that of LayerNorm."""
        return self.change() - self.change("layer")

    def rest(self, norm: str = "batch") -> Seeds:
        """Return the part of ``change`` that a new head does not recover."""
        return self.cut("accuracy_head", norm) - self.cut("accuracy_cut_head", norm)

    def gain(self, measure: str, minus: str = "accuracy") -> Seeds:
        return self.cut(measure) - self.cut(minus)


def networks(study: DynamicNetwork, runs: Table) -> list[Networks]:
    """Return the networks of each corpus: all cells with the first pooling, the first with all."""
    return [
        Networks(runs, corpus, cell, pooling)
        for corpus, pooling, cell in product(study.corpora, study.poolings, study.cells)
        if cell == study.cells[0] or pooling == study.poolings[0]
    ]


def findings(study: DynamicNetwork, runs: Table) -> list[Finding]:
    """Return all findings; those of the first cell and pooling that answer the question first."""
    found: list[Finding] = []

    def add(what: str, value: Seeds, unit: str, expected: int = 0, key: bool = False) -> None:
        found.append(Finding(what, value.interval, unit, expected, key))

    for corpus in study.tails:
        alone = 100 * runs.by_seed("alone_4", part="rows", corpus=corpus)
        add(f"share of tokens alone at their step, {corpus}, batches of 4", alone, "%", 1)
    for of in networks(study, runs):
        first = of.pooling == study.poolings[0]
        main = first and of.cell == study.cells[0]
        where = f"{of.corpus}, {of.cell.upper()}"
        for name, words in (("running", "running statistics"), ("64", "a batch of 64")):
            if first:
                what = f"relative error of a step's variance, growth over 100 steps, {words}"
                key = main and name == "running"
                add(f"{what}, {where}", of.whole(f"slope_{name}"), "", 1, key)
        if first:
            what = "relative error of a step's running variance, the last"
            late = of.whole("error_late") - of.whole("error_early")
            add(f"{what} {study.cut} steps minus the first, {where}", late, "", 1)
            seen, last = of.whole("rows_first"), of.whole("rows_last")
            share = Seeds({seed: 100 * last[seed] / rows for seed, rows in seen.items()})
            what = "rows that the last step's running statistics have seen, of the first's"
            add(f"{what}, {where}", share, "%")
        longest = f"length_{len(study.bounds)}"
        whole = {"accuracy": "accuracy on whole documents"}
        whole[longest] = f"accuracy beyond {study.bounds[-1]} tokens"
        for measure, what in whole.items():
            key = main and measure == longest
            words = f"{what}, BatchNorm minus LayerNorm, {of}"
            add(words, of.beside_layer(measure), "points", -1, key)
        what = "accuracy with running statistics minus that with the population's"
        add(f"{what}, {of}", of.population(), "points", -1)
        what = f"trained on {study.cut} tokens: accuracy on whole documents minus the same cut"
        for norm, expected in (("batch", -1), ("layer", 0)):
            key = main and norm == "batch"
            add(f"{what}, {NAMES[norm]}, {of}", of.change(norm), "points", expected, key)
        words = f"{what}, BatchNorm's change minus LayerNorm's, {of}"
        add(words, of.more(), "points", -1, main)
        if main:
            found += _causes(study, of)
    return sorted(found, key=lambda finding: not finding.key)


def _causes(study: DynamicNetwork, of: Networks) -> Iterator[Finding]:
    """Yield the effects of running or reading the same networks in another way."""

    def points(what: str, value: Seeds, expected: int = 0, key: bool = False) -> Finding:
        return Finding(what, value.interval, "points", expected, key)

    cut = study.cut
    yield points(
        f"as many steps as the whole document, its first {cut} tokens over and over, minus these "
        f"once, BatchNorm, {of}",
        of.gain("accuracy_again", "accuracy_cut"),
        -1,
    )
    yield points(
        f"the last {cut} tokens alone minus the first, BatchNorm, {of}",
        of.gain("accuracy_tail", "accuracy_cut"),
    )
    yield points(
        "first tokens over and over: each step's own statistics minus those of the last trusted "
        f"step, {of}",
        of.gain("accuracy_again_population", "accuracy_again"),
        1,
    )
    for measure, (expected, words) in REMEDIES.items():
        what = f"gain of whole documents by {words}, BatchNorm, {of}"
        yield points(what, of.gain(measure), expected, measure == "accuracy_own")
    for site, words in (("input", "W x"), ("cell", "the cell state")):
        for measure, name in (("shift", "mean"), ("ratio", "standard deviation")):
            moved = of.cut(f"{measure}_{site}")
            yield Finding(
                f"shift of the {name} of {words} at steps beyond {cut}, in standard deviations "
                f"there, BatchNorm, {of}",
                interval(value - (measure == "ratio") for value in moved.values()),
            )
    what = "loss that a new head does not give back, BatchNorm"
    yield points(f"{what}, {of}", of.rest())
    yield points(f"{what} minus LayerNorm, {of}", of.rest() - of.rest("layer"), -1)
    for variant in study.variants if of.corpus == study.corpora[0] else ():
        what = f"loss on whole documents of BatchNorm {SITE_WORDS[variant]} minus that at all sites"
        yield points(what, of.change(variant=variant) - of.change())


def quantities(study: DynamicNetwork, runs: Table) -> dict[str, Any]:
    """Return the numbers of the text: networks of two corpora and cells, and costs."""

    def costs(measure: str) -> Seeds:
        return runs.by_seed(measure, part="cost", norm="batch", cell=study.cells[0])

    numbers, kept = costs("parameters"), costs("table_bytes")
    cases = [
        Networks(runs, corpus, cell, study.poolings[0])
        for corpus, cell in product(("r8", "imdb"), (study.cells[0], study.cells[-1]))
    ]
    return {
        "last": cases,
        "mean": [Networks(runs, corpus, study.cells[0], "mean") for corpus in ("r8", "imdb")],
        "sites": [cases[0].change(variant=site) for site in SITE_WORDS],
        "costs": costs,
        "times": Seeds({seed: 0.25 * size / numbers[seed] for seed, size in kept.items()}),
    }
