"""Numbers of the study of dynamic networks."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from seqnorm.studies.evidence import Finding, Seeds
from seqnorm.studies.table import Table

if TYPE_CHECKING:
    from .study import DynamicNetwork

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


def findings(study: DynamicNetwork, table: Table) -> list[Finding]:
    """Return the findings of the first cell and pooling."""
    runs = table.where(stage="run")
    found: list[Finding] = []
    for corpus in study.corpora:
        of = Networks(runs, corpus, study.cells[0], study.poolings[0])

        def add(what: str, value: Seeds, expected: int, unit: str = "points") -> None:
            found.append(Finding(what, value.interval, unit, expected, key=True))

        what = "relative error of a step's running variance, growth over 100 steps"
        add(f"{what}, {corpus}, {of.cell.upper()}", of.whole("slope_running"), 1, "")
        longest = of.beside_layer(f"length_{len(study.bounds)}")
        what = f"accuracy beyond {study.bounds[-1]} tokens, BatchNorm minus LayerNorm"
        add(f"{what}, {of}", longest, -1)
        what = f"trained on {study.cut} tokens: accuracy on whole documents minus cut documents"
        add(f"{what}, BatchNorm, {of}", of.change(), -1)
        add(f"{what}, BatchNorm's change minus LayerNorm's, {of}", of.more(), -1)
        what = f"trained on {study.cut} tokens: accuracy on whole documents, statistics of the test"
        what += " documents minus running statistics"
        add(f"{what}, BatchNorm, {of}", of.gain("accuracy_own"), 1)
    return found


def quantities(study: DynamicNetwork, table: Table) -> dict[str, Any]:
    """Return the numbers of the text: networks of two corpora and cells, and costs."""
    runs = table.where(stage="run")

    def costs(measure: str) -> Seeds:
        return runs.by_seed(measure, part="cost", norm="batch", cell=study.cells[0])

    numbers, kept = costs("parameters"), costs("table_bytes")
    tasks = product(("r8", "imdb"), (study.cells[0], study.cells[-1]))
    cases = [Networks(runs, *task, study.poolings[0]) for task in tasks]
    return {
        "last": cases,
        "mean": [Networks(runs, corpus, study.cells[0], "mean") for corpus in ("r8", "imdb")],
        "sites": [cases[0].change(variant=site) for site in SITE_WORDS],
        "costs": costs,
        "times": Seeds({seed: 0.25 * size / numbers[seed] for seed, size in kept.items()}),
    }
