"""What one model answers about the same documents, by different statistics and in other company.

The weights stay as they are; what differs is where BatchNorm takes mean and variance from, and
which documents stand in the batch beside the one that is asked about.

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

Order = Sequence[Sequence[int]]


def has_statistics(model: nn.Module) -> bool:
    """Whether a norm of the model averages over the batch."""
    return any(isinstance(module, RunningTable) for module in model.modules())


def random_batches(count: int, size: int, generator: torch.Generator) -> list[list[int]]:
    """The numbers 0 to count - 1 in random batches of at most ``size``, which differ by one."""
    order = torch.randperm(count, generator=generator)
    return [part.tolist() for part in order.tensor_split(-(-count // size))]


def twice(count: int) -> list[list[int]]:
    """Each document in a batch with a copy of itself.

    The mean of the two rows is the row, their variance 0: the statistics of one row alone, which
    a table refuses to take (``min_count``).
    """
    return [[index, index] for index in range(count)]


@torch.no_grad()
def logits(model: nn.Module, documents: TextDataset, order: Order, by_batch: bool) -> Tensor:
    """Logits (N, C) of the documents, asked in these batches.

    Args:
        order: batches that hold every document; of one in several batches, the last answer stays.
        by_batch: normalise by statistics of each batch, not by running ones.
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
    """Logits (len(targets), C) by statistics of the batch, each target in a batch of its own with
    these companions."""
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
    """How good ``answers`` (N, C) are."""
    labels = torch.tensor(documents.labels)
    hits = (answers.argmax(-1) == labels).double().mean()
    return Score(float(F.cross_entropy(answers, labels)), float(hits))


def changed(a: Tensor, b: Tensor) -> float:
    """Part of the documents to which two answers (N, C) name different classes."""
    return float((a.argmax(-1) != b.argmax(-1)).double().mean())


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Of any logit in two answers (N, C)."""
    return float((a - b).abs().max())


@contextmanager
def reestimated(
    model: nn.Module, documents: TextDataset, order: Order, estimate: str
) -> Iterator[None]:
    """Within, tables hold statistics of all ``documents``; afterwards what they held before."""
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
