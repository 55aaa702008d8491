"""Answers of one model for the same documents with different statistics or companions.

The weights stay the same. The source of BatchNorm's mean and variance differs, and so do a
document's companions, the other documents in its batch.

Axes: N documents, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.models import TextClassifier
from seqnorm.nn.statistics import RunningTable
from seqnorm.studies.remedied_training import as_in_training
from seqnorm.studies.texts import Part, Texts, logits, with_statistics

ASKED = (64, 16, 4)
COMPANY = ("random", "short", "long")
ESTIMATES = ("population", "average")
KINDS = ("running", *ESTIMATES, *(f"batch{size}" for size in ASKED), "batch1")


def generator(seed: int, also: int = 0) -> torch.Generator:
    """Return a generator whose draws follow from these numbers alone."""
    return torch.Generator().manual_seed(1_000_003 * also + seed)


def first(part: Part, count: int) -> Part:
    """Return the first ``count`` documents, which are in random order."""
    return part.take(range(min(count, len(part))))


def pools(lengths: Sequence[int], share: float) -> dict[str, list[int]]:
    """Return the shortest and the longest documents, each this share of all."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    count = max(2, round(share * len(order)))
    return {"short": order[:count], "long": order[-count:]}


def companions(
    targets: Sequence[int], pool: Sequence[int], count: int, draw: torch.Generator
) -> list[list[int]]:
    """Draw ``count`` documents of the pool for each target, without the target itself.

    No document is drawn twice while the pool lasts.
    """
    chosen = []
    for target in targets:
        others = [index for index in pool if index != target]
        rounds = -(-count // len(others))
        order = torch.cat([torch.randperm(len(others), generator=draw) for _ in range(rounds)])
        chosen.append([others[place] for place in order[:count].tolist()])
    return chosen


def equal_batches(count: int, size: int, draw: torch.Generator) -> list[list[int]]:
    """Divide 0 to count - 1 into random batches of at most ``size``, equal up to one."""
    order = torch.randperm(count, generator=draw)
    return [part.tolist() for part in order.tensor_split(-(-count // size))]


def twice(count: int) -> list[list[int]]:
    """Put each document into a batch with a copy of itself.

    The mean of the two rows is the row and their variance 0. These are the statistics of a single
    row, which a running table does not take (``min_count``).
    """
    return [[index, index] for index in range(count)]


@torch.no_grad()
def accompanied(
    model: nn.Module, part: Part, targets: Sequence[int], companions: Sequence[Sequence[int]]
) -> Tensor:
    """Compute the logits (len(targets), C) of targets, each in a batch with its companions."""
    with as_in_training(model):
        rows = []
        for target, others in zip(targets, companions):
            batch = part.batch([target, *others])
            rows.append(model(batch.tokens, batch.lengths)[0])
    return torch.stack(rows)


def score(answers: Tensor, part: Part) -> dict[str, float]:
    """Return the mean cross-entropy "loss" and the "accuracy" of ``answers`` (N, C)."""
    labels = torch.tensor(part.labels)
    hits = (answers.argmax(-1) == labels).double().mean()
    return {"loss": float(F.cross_entropy(answers, labels)), "accuracy": float(hits)}


def changed(a: Tensor, b: Tensor) -> float:
    """Return the share of the documents for which two answers (N, C) name different classes."""
    return float((a.argmax(-1) != b.argmax(-1)).double().mean())


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of a logit in two answers (N, C)."""
    return float((a - b).abs().max())


def by_kind(
    model: TextClassifier, texts: Texts, size: int, seed: int, estimate_documents: int
) -> dict[str, float]:
    """Measure loss and accuracy on the test documents by every kind of statistics.

    Args:
        size: of the batches of training.
        estimate_documents: training documents that statistics are taken anew from.
    """
    test = texts.test
    order = equal_batches(len(test), 64, generator(seed))
    found = {"running": logits(model, test, order)}
    if any(isinstance(module, RunningTable) for module in model.modules()):
        some = first(texts.train, estimate_documents)
        seen = equal_batches(len(some), size, generator(seed))
        for estimate in ESTIMATES:
            found[estimate] = logits(with_statistics(model, some, seen, estimate), test, order)
    for asked in ASKED:
        batches = equal_batches(len(test), asked, generator(seed))
        found[f"batch{asked}"] = logits(model, test, batches, by_batch=True)
    found["batch1"] = logits(model, test, twice(len(test)), by_batch=True)
    return {
        f"{name}_{kind}": value
        for kind, answers in found.items()
        for name, value in score(answers, test).items()
    }


def by_company(
    model: nn.Module, test: Part, seed: int, asked: int, share: float
) -> dict[str, float]:
    """Measure how much answers change from random companions to other random, short or long ones.

    Args:
        asked: number of documents that are evaluated beside short and long ones.
        share: of the test documents that count as short, and as long.
    """
    values: dict[str, float] = {}

    def compare(name: str, one: Tensor, other: Tensor) -> None:
        values[f"changed_{name}"] = changed(one, other)
        values[f"logit_{name}"] = largest_difference(one, other)

    def at_random(size: int, draw: torch.Generator, by_batch: bool) -> Tensor:
        return logits(model, test, equal_batches(len(test), size, draw), by_batch)

    for size in ASKED:
        draw = generator(seed, size)
        answers = at_random(size, draw, True)
        compare(f"random_{size}", answers, at_random(size, draw, True))
        targets = torch.randperm(len(test), generator=draw)[:asked].tolist()
        for company, pool in pools(test.lengths, share).items():
            chosen = companions(targets, pool, size - 1, draw)
            told = accompanied(model, test, targets, chosen)
            compare(f"{company}_{size}", answers[targets], told)
    draw = generator(seed)
    compare("running", at_random(16, draw, False), at_random(16, draw, False))
    return values
