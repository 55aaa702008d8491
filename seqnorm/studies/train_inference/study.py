"""Training and inference use different statistics: what that does to the answers of a classifier.

BatchNorm trains by the statistics of a mini-batch and serves by running averages of them, so it is
two functions of the same weights. Here both are asked about the same documents, during training and
after it, and the first of them in different company.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import (
    BucketBatchSampler,
    Documents,
    TextDataset,
    Tokenizer,
    collate,
    load_corpus,
    split_validation,
)
from seqnorm.models import TextClassifier
from seqnorm.studies.evidence import Finding
from seqnorm.studies.study import Outcome, Picture, Study
from seqnorm.studies.table import Setting, Table
from seqnorm.studies.tuning import choose_rate, tuning_seeds

from . import answers, reading

ASKED = (64, 16, 4)
COMPANY = ("random", "short", "long")
ESTIMATES = ("population", "average")
KINDS = ("running", *ESTIMATES, *(f"batch{size}" for size in ASKED), "batch1")


@dataclass(frozen=True)
class Parts:
    """The documents of a run as token numbers, and how many tokens and classes there are."""

    train: TextDataset
    validation: TextDataset
    test: TextDataset
    vocab_size: int
    classes: int


@dataclass(frozen=True)
class TrainInference(Study):
    """Study 4.

    Args:
        corpus, root: what is classified, and where it is fetched to.
        train_documents, test_documents: how many, drawn once for all runs.
        max_length: tokens after which a document is cut.
        vocab_size: tokens known.
        embedding_size, hidden_size, embedding_dropout, dropout: of the classifier.
        epochs: over the training documents.
        norms: none among them for no norm.
        batch_sizes: of training.
        rates: learning rates to choose from; one is taken without a choice.
        tuning_runs: seeds for the choice.
        seeds: reported runs of every norm and batch size.
        looks: how often in a run the test loss is taken.
        look_documents: on how many test documents.
        estimate_documents: training documents that statistics are taken anew from.
        targets: documents that are asked about in chosen company.
        pool: the shortest and the longest documents that companions are drawn from, as parts of the
            test documents.
    """

    name: ClassVar[str] = "train_inference"
    title: ClassVar[str] = "Training and inference use different statistics"
    question: ClassVar[str] = (
        "How far do the answers of the same weights differ between the statistics of a batch, by "
        "which BatchNorm trains, and the running ones, by which it serves? And how far does an "
        "answer depend on the documents that happen to be in the batch?"
    )
    factors: ClassVar[tuple[str, ...]] = ("stage", "norm", "batch", "rate", "seed")
    measures: ClassVar[tuple[str, ...]] = (
        "val_accuracy",
        *(f"{what}_{kind}" for kind in KINDS for what in ("loss", "accuracy")),
        *(f"changed_{company}_{size}" for size in ASKED for company in COMPANY),
        *(f"logit_{company}_{size}" for size in ASKED for company in COMPANY),
        "changed_running",
        "logit_running",
    )
    extent: ClassVar[tuple[str, ...]] = ("seeds", "norms", "batch_sizes")

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
        """Tuning first, then the runs of each norm and batch size whose rate is known."""
        cases = list(product(self.norms, self.batch_sizes))
        chosen = {}
        for norm, batch in cases:
            rates, chosen[norm, batch] = self._rates(done, norm, batch)
            for rate, seed in product(rates, tuning_seeds(self.tuning_runs)):
                yield self._setting("tune", norm, batch, rate, seed)
        for seed, (norm, batch) in product(range(self.seeds), cases):
            best = chosen[norm, batch]
            if best is not None:
                yield self._setting("run", norm, batch, best, seed)

    def _rates(self, done: Table, norm: str, batch: int) -> tuple[list[float], float | None]:
        tuned = done.where(stage="tune", norm=norm, batch=batch)
        return choose_rate(tuned, self.rates, tuning_seeds(self.tuning_runs), "val_accuracy")

    def _setting(self, stage: str, norm: str, batch: int, rate: float, seed: int) -> Setting:
        return {"stage": stage, "norm": norm, "batch": batch, "rate": rate, "seed": seed}

    def cost(self, setting: Setting) -> float:
        """Documents trained on, dearer in small batches, and those asked about."""
        trained = self.epochs * self.train_documents * (1 + 12 / int(str(setting["batch"])))
        asked = 0 if setting["stage"] == "tune" else 120 * self.targets + 6 * self.test_documents
        return trained + 0.3 * asked

    def run(self, setting: Setting) -> Outcome:
        """Trains a classifier; of a reported run, asks it in all ways."""
        seed, size, stage = int(str(setting["seed"])), int(str(setting["batch"])), setting["stage"]
        parts = load_parts(
            self.corpus,
            self.root,
            self.vocab_size,
            self.max_length,
            self.train_documents,
            self.test_documents,
        )
        torch.manual_seed(seed)
        model = self.classifier(str(setting["norm"]), parts)
        curves: dict[str, list[tuple[float, float]]] = {}
        steps = self.epochs * -(-len(parts.train) // size)
        due = look_steps(steps, self.looks) if stage == "run" else []
        for step in train(model, parts.train, size, self.epochs, float(str(setting["rate"])), seed):
            if step in due:
                for kind, loss in self._look(model, parts.test, size, seed).items():
                    epoch = step / steps * self.epochs
                    curves.setdefault(f"loss_{kind}", []).append((epoch, loss))
        batches = answers.random_batches(len(parts.validation), 64, generator(seed))
        found = answers.logits(model, parts.validation, batches, by_batch=False)
        values = {"val_accuracy": answers.score(found, parts.validation).accuracy}
        if stage == "run":
            values |= self.by_kind(model, parts, size, seed)
            values |= self.by_company(model, parts.test, seed)
        return Outcome({name: v for name, v in values.items() if not math.isnan(v)}, curves)

    def classifier(self, norm: str, parts: Parts) -> TextClassifier:
        """The model of a run, its weights drawn from torch's generator."""
        return TextClassifier(
            parts.vocab_size,
            parts.classes,
            norm=None if norm == "none" else norm,
            norm_options={"max_steps": self.max_length} if norm == "batch" else None,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            bidirectional=False,
            pooling="mean",
            # All that the head sees has then gone through the norms.
            pool_embeddings=False,
            word_dropout=0.0,
            embedding_dropout=self.embedding_dropout,
            dropout=self.dropout,
        )

    def _look(
        self, model: nn.Module, test: TextDataset, size: int, seed: int
    ) -> Mapping[str, float]:
        some = first(test, self.look_documents)
        order = answers.random_batches(len(some), size, generator(seed))
        return {
            kind: answers.score(answers.logits(model, some, order, by_batch), some).loss
            for kind, by_batch in (("running", False), ("batch", True))
        }

    def by_kind(self, model: nn.Module, parts: Parts, size: int, seed: int) -> dict[str, float]:
        """Loss and accuracy on the test documents by every kind of statistics."""
        test = parts.test
        order = answers.random_batches(len(test), 64, generator(seed))
        found = {"running": answers.logits(model, test, order, by_batch=False)}
        if answers.has_statistics(model):
            some = first(parts.train, self.estimate_documents)
            seen = answers.random_batches(len(some), size, generator(seed))
            for estimate in ESTIMATES:
                with answers.reestimated(model, some, seen, estimate):
                    found[estimate] = answers.logits(model, test, order, by_batch=False)
        for asked in ASKED:
            batches = answers.random_batches(len(test), asked, generator(seed))
            found[f"batch{asked}"] = answers.logits(model, test, batches, by_batch=True)
        found["batch1"] = answers.logits(model, test, answers.twice(len(test)), by_batch=True)
        scores = {kind: answers.score(logits, test) for kind, logits in found.items()}
        values = {f"loss_{kind}": score.loss for kind, score in scores.items()}
        return values | {f"accuracy_{kind}": score.accuracy for kind, score in scores.items()}

    def by_company(self, model: nn.Module, test: TextDataset, seed: int) -> dict[str, float]:
        """How answers change with the companions; beside random ones, with other random ones and
        with all short and all long ones."""
        values: dict[str, float] = {}
        for size in ASKED:
            draw = generator(seed, size)
            one, other = (
                answers.logits(
                    model, test, answers.random_batches(len(test), size, draw), by_batch=True
                )
                for _ in range(2)
            )
            targets = torch.randperm(len(test), generator=draw)[: self.targets].tolist()
            pairs: dict[str, tuple[Tensor, Tensor]] = {"random": (one, other)}
            for company, pool in pools(test.lengths, self.pool).items():
                chosen = companions(targets, pool, size - 1, draw)
                told = answers.accompanied(model, test, targets, chosen)
                pairs[company] = (one[targets], told)
            for company, (a, b) in pairs.items():
                values[f"changed_{company}_{size}"] = answers.changed(a, b)
                values[f"logit_{company}_{size}"] = answers.largest_difference(a, b)
        draw = generator(seed)
        a, b = (
            answers.logits(model, test, answers.random_batches(len(test), 16, draw), by_batch=False)
            for _ in range(2)
        )
        values["changed_running"] = answers.changed(a, b)
        values["logit_running"] = answers.largest_difference(a, b)
        return values

    def pictures(self, table: Table) -> list[Picture]:
        """Loss by the kind of statistics, changed answers, the gap during training."""
        return reading.pictures(table, self.batch_sizes)

    def findings(self, table: Table) -> list[Finding]:
        """Differences of BatchNorm's kinds of statistics, and of BatchNorm and LayerNorm."""
        return reading.findings(table, self.batch_sizes)

    def verdict(self, table: Table) -> str:
        """What the findings come to."""
        return reading.verdict(table, self.batch_sizes)


@functools.cache
def load_parts(
    corpus: str, root: str, vocab_size: int, max_length: int, train: int, test: int
) -> Parts:
    """The corpus's parts, the first two documents by a draw that is the same for every run."""
    found = load_corpus(corpus, root=root)
    learned, validation = split_validation(found.train)
    learned, asked = some(learned, train), some(found.test, test)
    tokenizer = Tokenizer.train(learned.texts, vocab_size=vocab_size)

    def encoded(documents: Documents) -> TextDataset:
        return TextDataset(tokenizer.encode(documents.texts, max_length), documents.labels)

    return Parts(
        encoded(learned),
        encoded(validation),
        encoded(asked),
        len(tokenizer),
        len(found.classes),
    )


def some(documents: Documents, count: int) -> Documents:
    """``count`` of them (all, if there are no more), drawn with a seed of its own."""
    order = torch.randperm(len(documents.texts), generator=generator(0))[:count].tolist()
    return Documents(
        tuple(documents.texts[index] for index in order),
        tuple(documents.labels[index] for index in order),
    )


def first(documents: TextDataset, count: int) -> TextDataset:
    """The first ``count`` documents, which are in random order."""
    labels = documents.labels
    return TextDataset(documents.tokens[:count], None if labels is None else labels[:count])


def generator(seed: int, also: int = 0) -> torch.Generator:
    """For draws that follow from these numbers alone."""
    return torch.Generator().manual_seed(1_000_003 * also + seed)


def look_steps(steps: int, looks: int) -> set[int]:
    """Steps to look at: the last, and before it ever denser towards the start."""
    return {max(1, round(steps * ((look + 1) / looks) ** 2)) for look in range(looks)}


def train(
    model: nn.Module, documents: TextDataset, size: int, epochs: int, rate: float, seed: int
) -> Iterator[int]:
    """Trains in random batches by Adam, its rate falling to 0 along a cosine; yields after every
    step how many were made. Order and dropout follow from the seed."""
    # Companions of like length would be companions of like class: here every batch is drawn alike.
    sampler = BucketBatchSampler(documents.lengths, batch_size=size, noise=math.inf, seed=seed)
    steps = epochs * len(sampler)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    torch.manual_seed(seed)
    step = 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            batch = collate([documents[index] for index in indices])
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            loss = F.cross_entropy(model(batch.tokens, batch.lengths), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            yield step


def pools(lengths: Sequence[int], part: float) -> dict[str, list[int]]:
    """The shortest and the longest documents, this part of all each."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    count = max(2, round(part * len(order)))
    return {"short": order[:count], "long": order[-count:]}


def companions(
    targets: Sequence[int], pool: Sequence[int], count: int, draw: torch.Generator
) -> list[list[int]]:
    """For each target ``count`` documents of the pool, itself not among them, none twice while the
    pool lasts."""
    chosen = []
    for target in targets:
        others = [index for index in pool if index != target]
        rounds = -(-count // len(others))
        order = torch.cat([torch.randperm(len(others), generator=draw) for _ in range(rounds)])
        chosen.append([others[place] for place in order[:count].tolist()])
    return chosen
