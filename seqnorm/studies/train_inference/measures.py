"""Answers of one model to the same documents, by different statistics and in other company.

The weights stay as they are. The differences are the source of BatchNorm's mean and variance, and
the documents in the batch beside the one that is asked about.

Axes: N documents, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import TextDataset, collate
from seqnorm.nn import reestimate_statistics
from seqnorm.nn.statistics import RunningTable, batch_statistics

from .data import Order, Parts, companions, first, generator, pools, random_batches, twice

ASKED = (64, 16, 4)
COMPANY = ("random", "short", "long")
ESTIMATES = ("population", "average")
KINDS = ("running", *ESTIMATES, *(f"batch{size}" for size in ASKED), "batch1")


def has_statistics(model: nn.Module) -> bool:
    """Return True if a norm of the model averages over the batch."""
    return any(isinstance(module, RunningTable) for module in model.modules())


@torch.no_grad()
def logits(model: nn.Module, documents: TextDataset, order: Order, by_batch: bool) -> Tensor:
    """Compute the logits (N, C) of the documents in these batches.

    Args:
        order: batches that hold every document; the last answer about a document is kept.
        by_batch: normalise by the statistics of each batch, not by the running ones.
    """
    mode = batch_statistics(model) if by_batch else nullcontext()
    if not by_batch:
        model.eval()
    found: Tensor | None = None
    with mode:
        for indices in order:
            batch = collate([documents[index] for index in indices])
            answer = model(batch.tokens, batch.lengths)
            if found is None:
                found = answer.new_full((len(documents), answer.shape[1]), torch.nan)
            found[batch.indices] = answer
    assert found is not None
    return found


@torch.no_grad()
def accompanied(
    model: nn.Module, documents: TextDataset, targets: Sequence[int], companions: Order
) -> Tensor:
    """Compute logits (len(targets), C) by the statistics of the batch.

    Each target stands in a batch of its own with its companions.
    """
    with batch_statistics(model):
        rows = []
        for target, others in zip(targets, companions):
            batch = collate([documents[index] for index in (target, *others)])
            rows.append(model(batch.tokens, batch.lengths)[0])
    return torch.stack(rows)


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy and accuracy of answers."""

    loss: float
    accuracy: float


def score(answers: Tensor, documents: TextDataset) -> Score:
    """Return the loss and the accuracy of ``answers`` (N, C)."""
    labels = torch.tensor(documents.labels)
    hits = (answers.argmax(-1) == labels).double().mean()
    return Score(float(F.cross_entropy(answers, labels)), float(hits))


def changed(a: Tensor, b: Tensor) -> float:
    """Return the part of the documents for which two answers (N, C) name different classes."""
    return float((a.argmax(-1) != b.argmax(-1)).double().mean())


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of a logit in two answers (N, C)."""
    return float((a - b).abs().max())


@contextmanager
def reestimated(
    model: nn.Module, documents: TextDataset, order: Order, estimate: str
) -> Iterator[None]:
    """Put statistics of all ``documents`` into the running tables, and restore them at the end."""
    buffers = [b for m in model.modules() if isinstance(m, RunningTable) for b in m.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        reestimate_statistics(
            model,
            (collate([documents[index] for index in indices]) for indices in order),
            lambda m, batch: m(batch.tokens, batch.lengths),
            estimate=estimate,
        )
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before):
                buffer.copy_(value)


def by_kind(
    model: nn.Module, parts: Parts, size: int, seed: int, estimate_documents: int
) -> dict[str, float]:
    """Measure loss and accuracy on the test documents by every kind of statistics.

    Args:
        size: of the batches of training.
        estimate_documents: training documents that statistics are taken anew from.
    """
    test = parts.test
    order = random_batches(len(test), 64, generator(seed))
    found = {"running": logits(model, test, order, by_batch=False)}
    if has_statistics(model):
        some = first(parts.train, estimate_documents)
        seen = random_batches(len(some), size, generator(seed))
        for estimate in ESTIMATES:
            with reestimated(model, some, seen, estimate):
                found[estimate] = logits(model, test, order, by_batch=False)
    for asked in ASKED:
        batches = random_batches(len(test), asked, generator(seed))
        found[f"batch{asked}"] = logits(model, test, batches, by_batch=True)
    found["batch1"] = logits(model, test, twice(len(test)), by_batch=True)
    scores = {kind: score(answers, test) for kind, answers in found.items()}
    values = {f"loss_{kind}": found.loss for kind, found in scores.items()}
    return values | {f"accuracy_{kind}": found.accuracy for kind, found in scores.items()}


def by_company(
    model: nn.Module, test: TextDataset, seed: int, asked: int, part: float
) -> dict[str, float]:
    """Measure the change of answers from random companions to others: random, short or long ones.

    Args:
        asked: documents that are asked about beside short and long ones.
        part: of the test documents that count as short, and as long.
    """
    values: dict[str, float] = {}
    for size in ASKED:
        draw = generator(seed, size)
        one, other = (
            logits(model, test, random_batches(len(test), size, draw), by_batch=True)
            for _ in range(2)
        )
        targets = torch.randperm(len(test), generator=draw)[:asked].tolist()
        pairs: dict[str, tuple[Tensor, Tensor]] = {"random": (one, other)}
        for company, pool in pools(test.lengths, part).items():
            chosen = companions(targets, pool, size - 1, draw)
            told = accompanied(model, test, targets, chosen)
            pairs[company] = (one[targets], told)
        for company, (a, b) in pairs.items():
            values[f"changed_{company}_{size}"] = changed(a, b)
            values[f"logit_{company}_{size}"] = largest_difference(a, b)
    draw = generator(seed)
    a, b = (
        logits(model, test, random_batches(len(test), 16, draw), by_batch=False) for _ in range(2)
    )
    values["changed_running"] = changed(a, b)
    values["logit_running"] = largest_difference(a, b)
    return values
