"""Study of networks that are unrolled to another length each time, whose steps lack statistics.

The factor ``part`` has these values:

- ``rows``: rows that each step's statistics rest on, from the lengths of real documents alone.
- ``cost``: parameters, running tables, time and memory, and one very long document in a batch.
- ``whole``: training and test on whole documents: errors of the statistics, accuracy by length.
- ``cut``: training on the beginnings of documents, test on whole ones, and causes of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from seqnorm.models import TextClassifier
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.texts import Texts, classifier, evenly, load_texts, replace_norm, train
from seqnorm.studies.tuning import tuned_runs

from . import figures as drawing
from . import measures, verdict
from .cost import cost_of

# Changes of the sites of norm="batch" that make a retrained variant.
SITES: dict[str, dict[str, Any]] = {
    "input": {"hidden": None, "cell": None},
    "hidden": {"input": None, "cell": None},
    "cell": {"input": None, "hidden": None},
    "no_cell": {"cell": None},
}
BATCHES = (64, 16, 4)
CURVE_EVERY = 20
UNCUT = 10**6


@dataclass(frozen=True)
class DynamicNetwork(Study):
    """BatchNorm with statistics of every time step, beside norms without running statistics.

    Raises:
        ValueError: a variant is unknown, lengths do not fit, or a corpus lacks a number of epochs
            or documents.
    """

    name = "dynamic_network"
    title = "Networks unrolled to another length each time"
    question = (
        "In a network that is unrolled to another length for every batch, each time step needs "
        "statistics of its own: do later steps, which fewer sequences reach, have worse ones, and "
        "what becomes of sequences longer than any in training?"
    )
    factors = ("part", "stage", "corpus", "cell", "norm", "variant", "pooling", "rate", "seed")
    measures = (
        *(f"alone_{size}" for size in BATCHES),
        *("parameters", "table_bytes", "padded_bytes", "alone_long", "updated_steps"),
        *("loss", "validation", "accuracy", "accuracy_population"),
        *(f"length_{number}" for number in range(5)),
        *("slope_running", *(f"slope_{size}" for size in BATCHES)),
        *("error_early", "error_late", "rows_first", "rows_last"),
        *("accuracy_cut", "accuracy_again", "accuracy_tail"),
        *("accuracy_cut_population", "accuracy_again_population"),
        *("accuracy_own", "accuracy_batch"),
        *("accuracy_bias", "accuracy_head", "accuracy_cut_head"),
        *("shift_cell", "shift_input", "ratio_cell", "ratio_input"),
    )

    seeds: int  # reported runs of each setting
    tuning_seeds: int  # runs of each rate to choose one by
    rates: tuple[float, ...]  # to choose from, by the accuracy on validation documents
    corpora: tuple[str, ...]  # to train on
    tails: tuple[str, ...]  # corpora of which only the lengths are used
    longest: str  # corpus whose longest document goes into a batch of ``cost``
    root: str  # folder that corpora are fetched to
    cells: tuple[str, ...]  # variants are made of the first
    norms: tuple[str, ...]  # of the first cell; "none" for no norm
    other_norms: tuple[str, ...]  # of the other cells, with the first pooling only
    variants: tuple[str, ...]  # of norm="batch", retrained: the sites that are left
    poolings: tuple[str, ...]  # of the outputs of all steps; the first is that of the variants
    documents: dict[str, int]  # at most so many training documents, by corpus
    tested: int  # at most so many test documents
    sampled: int  # at most so many training documents for new statistics or a new head
    vocabulary: int  # at most so many known words
    steps: int  # length at which documents are cut
    cut: int  # tokens of a beginning
    bounds: tuple[int, ...]  # upper bounds of the length classes
    batch: int
    epochs: dict[str, int]  # of training on whole documents, by corpus
    epochs_cut: int  # of training on beginnings
    embedding: int  # features
    hidden: int
    repeats: int  # of the timing of a batch without the longest document
    drawn: int  # batches of each size whose statistics are compared with the population's

    def __post_init__(self) -> None:
        if unknown := set(self.variants) - set(SITES):
            raise ValueError(f"variants {sorted(unknown)}: write some of {', '.join(SITES)}")
        if not 1 < self.cut < self.steps:
            raise ValueError(f"cut must lie between 1 and steps={self.steps}, got {self.cut}")
        if len(self.bounds) != 4 or sorted(self.bounds) != list(self.bounds):
            raise ValueError(f"bounds are four rising lengths, got {list(self.bounds)}")
        every = (*self.corpora, *self.tails, self.longest)
        for name, corpora in (("epochs", self.corpora), ("documents", every)):
            if missing := set(corpora) - set(getattr(self, name)):
                raise ValueError(f"{name} has no number for {', '.join(sorted(missing))}")

    def settings(self, done: Table) -> Iterator[Setting]:
        for corpus, seed in product(self.tails, range(self.seeds)):
            yield {"part": "rows", "stage": "run", "corpus": corpus, "seed": seed}
        of_cost = {"part": "cost", "stage": "run", "corpus": self.longest, "cell": self.cells[0]}
        for norm, seed in product(self.norms, range(self.seeds)):
            yield {**of_cost, "norm": norm, "seed": seed}
        cases = [(task, self.rates) for task in self._tasks()]
        tuning, seeds = self.tuning_seeds, self.seeds
        for setting in tuned_runs(done, cases, tuning=tuning, seeds=seeds, measure="validation"):
            yield setting
            if setting["stage"] == "run" and self._is_main(setting):
                for variant in self.variants:
                    yield {**setting, "variant": variant}

    def _tasks(self) -> Iterator[Setting]:
        for corpus, cell in product(self.corpora, self.cells):
            first = cell == self.cells[0]
            norms = self.norms if first else self.other_norms
            poolings = self.poolings if first else self.poolings[:1]
            for norm, pooling, part in product(norms, poolings, ("whole", "cut")):
                of = {"corpus": corpus, "cell": cell, "norm": norm, "pooling": pooling}
                yield {"part": part, **of}

    def _is_main(self, task: Setting) -> bool:
        main = ("cut", self.corpora[0], self.cells[0], "batch", self.poolings[0])
        return tuple(task[name] for name in ("part", "corpus", "cell", "norm", "pooling")) == main

    def run(self, setting: Setting) -> Outcome:
        if setting["part"] == "rows":
            return self._rows(setting)
        if setting["part"] == "cost":
            return cost_of(self, setting, self._load(setting["corpus"], UNCUT))
        data = self._load(setting["corpus"], self.steps)
        seed, whole = setting["seed"], setting["part"] == "whole"
        model = self.model(setting, data)
        epochs = self.epochs[setting["corpus"]] if whole else self.epochs_cut
        read = self.steps if whole else self.cut
        how = {"rate": setting["rate"], "epochs": epochs, "batch": self.batch, "seed": seed}
        losses = list(train(model, data.train.head(read), **how))
        last = losses[-len(losses) // epochs :]
        accuracy = measures.accuracy(model, data.validation.head(read))
        values = {"loss": sum(last) / len(last), "validation": accuracy}
        if setting["stage"] == "tune":
            return Outcome(values)
        measured = self._whole(model, data, seed) if whole else self._cut(model, data)
        return Outcome(values | dict(measured.values), measured.curves)

    def _load(self, corpus: str, steps: int) -> Texts:
        sizes = (self.documents[corpus], self.tested, self.tested)
        return load_texts(corpus, self.root, steps, self.vocabulary, evenly, sizes)

    def model(self, setting: Setting, data: Texts, max_steps: int | None = None) -> TextClassifier:
        """Return the untrained network of a setting. One seed gives the same first matrices."""
        seed, norm = setting["seed"], setting["norm"]
        torch.manual_seed(seed)
        sizes = {"embedding": self.embedding, "hidden": self.hidden}
        options = {"cell": setting["cell"], "pooling": setting["pooling"]}
        options |= {"word_dropout": 0.1, "embedding_dropout": 0.3, "dropout": 0.3}
        model = classifier(data, norm, max_steps=max_steps or self.steps, **sizes, **options)
        torch.manual_seed(seed + 1)  # independent of the biases that the recurrent layer has drawn
        model.head.reset_parameters()
        if variant := setting.get("variant"):
            drawn = model.recurrent
            assert drawn.norm is not None, "variants are of norm='batch'"
            replace_norm(model, drawn.norm.replace(**SITES[str(variant)]))
        return model

    def _rows(self, setting: Setting) -> Outcome:
        whole = self._load(setting["corpus"], UNCUT)
        values, curves = {}, {}
        for size in BATCHES:
            rows, alone = measures.rows_alive(whole.train.lengths, size, setting["seed"])
            values[f"alone_{size}"] = alone
            # Few points, closer together at the beginning: 0, 1, 2, 4, ... and 3/2 of these.
            steps = {int(base * 2**power) for power in range(14) for base in (0, 1, 1.5)}
            curves[f"rows_{size}"] = [(at, rows[at]) for at in sorted(steps) if at < len(rows)]
        return Outcome(values, curves)

    def _whole(self, model: TextClassifier, data: Texts, seed: int) -> Outcome:
        right = measures.right(model, data.test)
        values = {"accuracy": measures.share(right)}
        values |= measures.by_length(right, data.test.lengths, self.bounds)
        if not measures.has_steps(model):
            return Outcome(values)
        true = measures.population(model, data.train)
        values["accuracy_population"] = measures.accuracy(true, data.test)
        errors = {"running": measures.relative_error(model, true)}
        for size in BATCHES:
            how = (data.train, size, self.drawn, seed)
            errors[str(size)] = measures.error_of_batches(model, true, *how)
        values |= {f"slope_{name}": measures.slope(error) for name, error in errors.items()}
        rows = measures.variances(model)[1]
        running = errors["running"][rows > 0]
        values |= {
            "error_early": running[: self.cut].mean().item(),
            "error_late": running[-self.cut :].mean().item(),
            "rows_first": float(rows[0]),
            "rows_last": float(rows[rows > 0][-1]),
        }
        curves = {f"error_{name}": _thin(error.tolist()) for name, error in errors.items()}
        curves["table_rows"] = _thin(rows.tolist())
        return Outcome(values, curves)

    def _cut(self, model: TextClassifier, data: Texts) -> Outcome:
        """Measure on the test documents that are longer than the documents of training."""
        long = data.test.longer(self.cut)
        sample = data.train.take(evenly(len(data.train), self.sampled))
        head, again = long.head(self.cut), long.again(self.cut)
        short = sample.head(self.cut)
        right = measures.right(model, long)
        values = {
            "accuracy": measures.share(right),
            "accuracy_cut": measures.accuracy(model, head),
            "accuracy_again": measures.accuracy(model, again),
            "accuracy_tail": measures.accuracy(model, long.tail(self.cut)),
            "accuracy_bias": measures.refitted(model, sample, long, bias_alone=True),
            "accuracy_head": measures.refitted(model, sample, long, bias_alone=False),
            "accuracy_cut_head": measures.refitted(model, short, head, bias_alone=False),
        }
        values |= measures.by_length(right, long.lengths, self.bounds)
        if not measures.has_steps(model):
            return Outcome(values)
        true = measures.population(model, sample)
        repeated = measures.population(model, sample.again(self.cut))
        values |= {
            "accuracy_population": measures.accuracy(true, long),
            "accuracy_own": measures.accuracy(measures.population(model, long), long),
            "accuracy_batch": measures.accuracy_by_batch(model, long, self.batch),
            "accuracy_cut_population": measures.accuracy(measures.population(model, short), head),
            "accuracy_again_population": measures.accuracy(repeated, again),
        }
        found = measures.shift(true, self.cut)
        for name, site in (("cell", "norm_cell"), ("input", "norm_ih")):
            if site in found:
                values[f"shift_{name}"], values[f"ratio_{name}"] = found[site]
        return Outcome(values)

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities


def _thin(curve: Sequence[float]) -> list[tuple[float, float]]:
    """Keep every point of ``CURVE_EVERY`` steps that is not NaN."""
    kept = enumerate(curve)
    return [(step, y) for step, y in kept if step % CURVE_EVERY == 0 and y == y]
