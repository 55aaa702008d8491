"""Study of the statistics of training and of inference, by the answers of a classifier.

BatchNorm trains with the statistics of a mini-batch and is used with running averages of them, so
it is two functions of the same weights. The study evaluates both on the same documents, during and
after training, and evaluates the function of the batch with different other documents in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from seqnorm.models import TextClassifier
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.texts import Part, Texts, at_random, classifier, load_texts, logits, train
from seqnorm.studies.tuning import tuned_runs

from . import figures as drawing
from . import measures, verdict


@dataclass(frozen=True)
class TrainInference(Study):
    """BatchNorm of every step and pooled, beside norms without statistics of the batch."""

    name = "train_inference"
    title = "Training and inference use different statistics"
    question = (
        "How far do the answers of the same weights differ between the statistics of a batch, by "
        "which BatchNorm trains, and the running ones of inference? And how far does an "
        "answer depend on the documents that happen to be in the batch?"
    )
    factors = ("stage", "norm", "batch", "rate", "seed")
    measures = (
        "val_accuracy",
        *(f"{what}_{kind}" for kind in measures.KINDS for what in ("loss", "accuracy")),
        *(f"changed_{company}_{size}" for size in measures.ASKED for company in measures.COMPANY),
        *(f"logit_{company}_{size}" for size in measures.ASKED for company in measures.COMPANY),
        "changed_running",
        "logit_running",
    )
    extent = ("seeds", "norms", "batch_sizes")

    corpus: str
    root: str  # folder that the corpus is fetched to
    train_documents: int  # drawn once for all runs
    test_documents: int
    max_length: int  # at which documents are cut
    vocab_size: int  # at most so many known tokens
    embedding_size: int
    hidden_size: int
    embedding_dropout: float
    dropout: float
    epochs: int
    norms: tuple[str, ...]  # "none" for no norm
    batch_sizes: tuple[int, ...]  # of training
    rates: tuple[float, ...]  # to choose from; a single one is used without tuning
    tuning_runs: int  # seeds for the choice
    seeds: int  # reported runs of every norm and batch size
    looks: int  # number of times that the test loss is measured in a run
    look_documents: int  # test documents for these
    estimate_documents: int  # training documents that statistics are taken anew from
    targets: int  # documents that are evaluated beside chosen companions
    pool: float  # share of the test documents that short companions are drawn from, and long ones

    def __post_init__(self) -> None:
        if other := set(self.batch_sizes) - set(measures.ASKED):
            raise ValueError(f"batch_sizes are among {measures.ASKED}, not {other}")
        if self.looks < 1 or self.tuning_runs < 1 or not self.rates:
            raise ValueError("looks, tuning_runs and the number of rates must be at least 1")

    def settings(self, done: Table) -> Iterator[Setting]:
        tasks = product(self.norms, self.batch_sizes)
        cases = [({"norm": norm, "batch": batch}, self.rates) for norm, batch in tasks]
        tuning, seeds = self.tuning_runs, self.seeds
        return tuned_runs(done, cases, tuning=tuning, seeds=seeds, measure="val_accuracy")

    def run(self, setting: Setting) -> Outcome:
        """Train a classifier, and ask it in all ways if the run is a reported one."""
        seed, size, stage = setting["seed"], setting["batch"], setting["stage"]
        sizes = (self.train_documents, None, self.test_documents)
        where = (self.corpus, self.root, self.max_length, self.vocab_size)
        texts = load_texts(*where, at_random, sizes, words_of_chosen=True)
        torch.manual_seed(seed)
        model = self.classifier(setting["norm"], texts)
        curves: dict[str, list[tuple[float, float]]] = {}
        steps = self.epochs * -(-len(texts.train) // size)
        due = look_steps(steps, self.looks) if stage == "run" else set()
        how = {"rate": setting["rate"], "epochs": self.epochs, "batch": size, "seed": seed}
        how |= {"falling": True, "norm": setting["norm"]}
        for step, _ in enumerate(train(model, texts.train, **how), start=1):
            if step in due:
                for kind, loss in self._look(model, texts.test, size, seed).items():
                    epoch = step / steps * self.epochs
                    curves.setdefault(f"loss_{kind}", []).append((epoch, loss))
        batches = measures.equal_batches(len(texts.validation), 64, measures.generator(seed))
        found = logits(model, texts.validation, batches)
        values = {"val_accuracy": measures.score(found, texts.validation)["accuracy"]}
        if stage == "run":
            values |= measures.by_kind(model, texts, size, seed, self.estimate_documents)
            values |= measures.by_company(model, texts.test, seed, self.targets, self.pool)
        return Outcome({name: v for name, v in values.items() if not math.isnan(v)}, curves)

    def classifier(self, norm: str, texts: Texts) -> TextClassifier:
        """Return the model of a run, its weights drawn from torch's generator."""
        sizes = {"embedding": self.embedding_size, "hidden": self.hidden_size}
        dropouts: Any = {"embedding_dropout": self.embedding_dropout, "dropout": self.dropout}
        return classifier(texts, norm, max_steps=self.max_length, **sizes, **dropouts)

    def _look(self, model: TextClassifier, test: Part, size: int, seed: int) -> dict[str, float]:
        some = measures.first(test, self.look_documents)
        order = measures.equal_batches(len(some), size, measures.generator(seed))
        return {
            kind: measures.score(logits(model, some, order, by_batch), some)["loss"]
            for kind, by_batch in (("running", False), ("batch", True))
        }

    figures = drawing.figures
    findings = verdict.findings
    quantities = verdict.quantities


def look_steps(steps: int, looks: int) -> set[int]:
    """Return steps to look at: the last one, and others that are denser towards the start."""
    return {max(1, round(steps * ((look + 1) / looks) ** 2)) for look in range(looks)}
