"""Weighted means; accuracy and macro F1 of a classifier, over all documents and by their length.

Axes: B documents, L length buckets, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Of values that each stand for a number of examples.

    Over several processes, each of which has taken in some, it is that of all examples, and in half
    precision no sum ends early.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor, count: int) -> None:
        """Takes in the mean ``value`` of ``count`` examples."""
        # A module that is cast as a whole takes the sums along. Apple's GPUs have no float64.
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        self.total = self.total.to(wide) + value.detach().to(wide) * count
        self.count = self.count.to(wide) + count

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class LengthBucketConfusion(Metric):
    """Counts documents by length bucket, class and predicted class; ``compute`` gives (L, C, C).

    Everything else follows from the counts, and counts of several processes simply add up, even
    where a bucket is empty in some of them.

    Args:
        num_classes: C.
        edges: increasing; a document of n tokens is in the first bucket whose edge is >= n, or in
            the last, which has none.

    Raises:
        ValueError: edges that do not increase from at least 0.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int, edges: Sequence[int]) -> None:
        super().__init__()
        if list(edges) != sorted({*edges}) or min(edges, default=0) < 0:
            raise ValueError(f"length_edges must increase from at least 0, got {list(edges)}")
        self.edges = tuple(edges)
        shape = (len(edges) + 1, num_classes, num_classes)
        self.add_state("confusion", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def names(self) -> list[str]:
        """Of the buckets, as "0-25", "26-50", ">50"."""
        starts = [0, *(edge + 1 for edge in self.edges)]
        closed = [f"{start}-{edge}" for start, edge in zip(starts, self.edges)]
        return [*closed, f">{self.edges[-1]}" if self.edges else "all"]

    def update(self, predicted: Tensor, labels: Tensor, lengths: Tensor) -> None:
        """Counts documents; ``predicted``, ``labels`` and ``lengths`` are (B,) int64."""
        bucket = torch.bucketize(lengths, torch.tensor(self.edges, device=lengths.device))
        classes = self.confusion.shape[-1]
        cell = (bucket * classes + labels) * classes + predicted
        self.confusion += cell.bincount(minlength=self.confusion.numel()).view_as(self.confusion)

    def compute(self) -> Tensor:
        """(L, C, C): bucket, class, predicted class."""
        return self.confusion


def accuracy(confusion: Tensor) -> float:
    """Part of the documents on the diagonal of ``confusion`` (C, C)."""
    return float(confusion.diagonal().sum() / confusion.sum())


def macro_f1(confusion: Tensor) -> float:
    """Mean F1 over the classes that occur in ``confusion`` (C, C), predicted or true."""
    hits = confusion.diagonal()
    marginals = confusion.sum(0) + confusion.sum(1)
    present = marginals > 0
    return float((2 * hits[present] / marginals[present]).mean())
