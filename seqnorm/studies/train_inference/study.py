"""Study of the statistics of training and of inference, by the answers of a classifier.

BatchNorm trains with the statistics of a mini-batch and is used with running averages of them, so
it is two functions of the same weights. The study asks both about the same documents, during
training and after it, and the function of the batch in different company.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from seqnorm.datasets import TextDataset
from seqnorm.models import TextClassifier
from seqnorm.studies.evidence import Finding
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import plan

from . import figures, verdict
from .data import Parts, first, generator, load_parts, random_batches
from .measures import ASKED, COMPANY, KINDS, by_company, by_kind, logits, score
from .training import look_steps, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TrainInference(Study):
    """BatchNorm of every step and pooled, beside norms without statistics of the batch.

    Args:
        corpus, root: documents to classify, and the folder they are fetched to.
        train_documents, test_documents: their numbers; drawn once for all runs.
        max_length: length at which documents are cut.
        vocab_size: number of known tokens.
        embedding_size, hidden_size, embedding_dropout, dropout: of the classifier.
        epochs: over the training documents.
        norms: "none" for no norm.
        batch_sizes: of training.
        rates: learning rates to choose from; a single one is used without tuning.
        tuning_runs: number of seeds for the choice.
        seeds: reported runs of every norm and batch size.
        looks: number of times that the test loss is measured in a run.
        look_documents: test documents for these.
        estimate_documents: training documents that statistics are taken anew from.
        targets: documents that are asked about in chosen company.
        pool: part of the test documents that short companions are drawn from, and long ones.
    """

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
        *(f"{what}_{kind}" for kind in KINDS for what in ("loss", "accuracy")),
        *(f"changed_{company}_{size}" for size in ASKED for company in COMPANY),
        *(f"logit_{company}_{size}" for size in ASKED for company in COMPANY),
        "changed_running",
        "logit_running",
    )
    extent = ("seeds", "norms", "batch_sizes")

    corpus: str
    root: str
    train_documents: int
    test_documents: int
    max_length: int
    vocab_size: int
    embedding_size: int
    hidden_size: int
    embedding_dropout: float
    dropout: float
    epochs: int
    norms: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    rates: tuple[float, ...]
    tuning_runs: int
    seeds: int
    looks: int
    look_documents: int
    estimate_documents: int
    targets: int
    pool: float

    def __post_init__(self) -> None:
        if other := set(self.batch_sizes) - set(ASKED):
            raise ValueError(f"batch_sizes are among {ASKED}, for which there are columns: {other}")
        if self.looks < 1 or self.tuning_runs < 1 or not self.rates:
            raise ValueError("looks, tuning_runs and the number of rates must be at least 1")

    def settings(self, done: Table) -> Iterator[Setting]:
        """Yield the tuning, then the runs of each norm and batch size whose rate is known."""
        chosen: list[tuple[Setting, float]] = []
        for norm, batch in product(self.norms, self.batch_sizes):
            case: Setting = {"norm": norm, "batch": batch}
            tries, best = plan(done, case, self.rates, self.tuning_runs, "val_accuracy")
            yield from tries
            if best is not None:
                chosen.append((case, best))
        for seed, (case, best) in product(range(self.seeds), chosen):
            yield {**case, "stage": "run", "rate": best, "seed": seed}

    def cost(self, setting: Setting) -> float:
        """Count documents of training, which cost more in small batches, and of the questions."""
        trained = self.epochs * self.train_documents * (1 + 12 / setting["batch"])
        asked = 0 if setting["stage"] == "tune" else 120 * self.targets + 6 * self.test_documents
        return float(trained + 0.3 * asked)

    def run(self, setting: Setting) -> Outcome:
        """Train a classifier, and ask it in all ways if the run is a reported one."""
        seed, size, stage = setting["seed"], setting["batch"], setting["stage"]
        parts = load_parts(
            self.corpus,
            self.root,
            self.vocab_size,
            self.max_length,
            self.train_documents,
            self.test_documents,
        )
        torch.manual_seed(seed)
        model = self.classifier(setting["norm"], parts)
        curves: dict[str, list[tuple[float, float]]] = {}
        steps = self.epochs * -(-len(parts.train) // size)
        due = look_steps(steps, self.looks) if stage == "run" else []
        for step in train(model, parts.train, size, self.epochs, setting["rate"], seed):
            if step in due:
                for kind, loss in self._look(model, parts.test, size, seed).items():
                    epoch = step / steps * self.epochs
                    curves.setdefault(f"loss_{kind}", []).append((epoch, loss))
        batches = random_batches(len(parts.validation), 64, generator(seed))
        found = logits(model, parts.validation, batches, by_batch=False)
        values = {"val_accuracy": score(found, parts.validation).accuracy}
        if stage == "run":
            values |= by_kind(model, parts, size, seed, self.estimate_documents)
            values |= by_company(model, parts.test, seed, self.targets, self.pool)
        return Outcome({name: v for name, v in values.items() if not math.isnan(v)}, curves)

    def classifier(self, norm: str, parts: Parts) -> TextClassifier:
        """Return the model of a run, its weights drawn from torch's generator."""
        return TextClassifier(
            parts.vocab_size,
            parts.classes,
            norm=None if norm == "none" else norm,
            norm_options={"max_steps": self.max_length} if norm == "batch" else None,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            bidirectional=False,
            pooling="mean",
            # Everything that the head sees has then gone through the norms.
            pool_embeddings=False,
            word_dropout=0.0,
            embedding_dropout=self.embedding_dropout,
            dropout=self.dropout,
        )

    def _look(
        self, model: nn.Module, test: TextDataset, size: int, seed: int
    ) -> Mapping[str, float]:
        some = first(test, self.look_documents)
        order = random_batches(len(some), size, generator(seed))
        return {
            kind: score(logits(model, some, order, by_batch), some).loss
            for kind, by_batch in (("running", False), ("batch", True))
        }

    def figures(self, table: Table) -> dict[str, Figure]:
        return figures.figures(table.where(stage="run"), self.batch_sizes)

    def findings(self, table: Table) -> list[Finding]:
        return verdict.findings(table.where(stage="run"), self.batch_sizes)

    def quantities(self, table: Table) -> dict[str, Any]:
        return verdict.quantities(table.where(stage="run"))
