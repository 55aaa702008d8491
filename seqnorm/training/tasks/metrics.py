"""Metrics of the tasks, exact over batches of any size and over several processes.

Axes: B examples, L length buckets, C classes, N tokens, K targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class Mean(Metric):
    """Mean over examples of values that are each a mean of some examples.

    Over several processes it is the mean of the examples of all. The sum is wide enough in half
    precision, too.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor, count: int) -> None:
        """Add the mean ``value`` of ``count`` examples."""
        # Casting the whole module also casts these sums. Apple's GPUs have no float64.
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        self.total = self.total.to(wide) + value.detach().to(wide) * count
        self.count = self.count.to(wide) + count

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class LengthBucketConfusion(Metric):
    """Counts (L, C, C) of documents by length bucket, class and predicted class.

    All other scores follow from the counts. The counts of several processes add up, even if a
    bucket is empty in some of them.

    Args:
        num_classes: The number of classes, C.
        edges: The upper edges of the buckets, increasing. A document of n tokens is in the first
            bucket with an edge >= n, or in the last bucket, which has no edge.

    Raises:
        ValueError: The edges do not increase from at least 0.
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
        """The names of the buckets, as "0-25", "26-50", ">50"."""
        starts = [0, *(edge + 1 for edge in self.edges)]
        closed = [f"{start}-{edge}" for start, edge in zip(starts, self.edges)]
        return [*closed, f">{self.edges[-1]}" if self.edges else "all"]

    def update(self, predicted: Tensor, labels: Tensor, lengths: Tensor) -> None:
        """Count documents; ``predicted``, ``labels`` and ``lengths`` are (B,) int64."""
        bucket = torch.bucketize(lengths, torch.tensor(self.edges, device=lengths.device))
        classes = self.confusion.shape[-1]
        cell = (bucket * classes + labels) * classes + predicted
        self.confusion += cell.bincount(minlength=self.confusion.numel()).view_as(self.confusion)

    def compute(self) -> Tensor:
        """Return the counts (L, C, C): bucket, class, predicted class."""
        return self.confusion


class Surprisal(Metric):
    """Sum of -log p over tokens, and the numbers of tokens and of characters they stand for.

    The sums of batches of any size, and of several processes, equal those of one large batch.
    """

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
        self.add_state("nats", zero, dist_reduce_fx="sum")
        self.add_state("tokens", count, dist_reduce_fx="sum")
        self.add_state("characters", count.clone(), dist_reduce_fx="sum")

    def update(self, nats: Tensor, characters: Tensor) -> None:
        """Add -log p (N,) of tokens that stand for ``characters`` (N,)."""
        # Casting the whole module to half precision also casts this sum, which would soon be too
        # large to change by the sum of a batch.
        self.nats = self.nats.double() + nats.sum(dtype=torch.float64)
        self.tokens += len(nats)
        self.characters += characters.sum()

    def compute(self) -> dict[str, Tensor]:
        """Return loss (nats a token), perplexity, bits_per_character, tokens and characters."""
        loss = self.nats / self.tokens
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "bits_per_character": self.nats / math.log(2) / self.characters,
            "tokens": self.tokens,
            "characters": self.characters,
        }


class RegressionErrors(Metric):
    """Sums over examples from which the errors of K targets follow, in their original units.

    The sums of batches of any size, and of several processes, equal those of one large batch.

    Args:
        std: The standard deviation of each target, by which predictions and targets are divided.
    """

    full_state_update = False
    count: Tensor
    sums: Tensor

    def __init__(self, std: Sequence[float]) -> None:
        super().__init__()
        self._std = tuple(std)
        # Sums of |error|, error^2, target and target^2, of standardised values.
        sums = torch.zeros(4, len(self._std), dtype=torch.float64)
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", sums, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, targets: Tensor) -> None:
        """Add standardised predictions and targets, both (B, K)."""
        predicted, targets = predicted.detach().double(), targets.double()
        error = predicted - targets
        found = torch.stack([error.abs(), error.square(), targets, targets.square()]).sum(1)
        # Casting the whole module to half precision also casts the sums.
        self.sums = self.sums.double() + found
        self.count += len(targets)

    def compute(self) -> dict[str, list[float]]:
        """Return mae, rmse and r2 of each target.

        R² is NaN if all targets are equal.
        """
        absolute, squared, total, square = self.sums.double()
        std = self.sums.double().new_tensor(self._std)
        spread = square - total.square() / self.count
        spread = torch.where(spread > 1e-12 * square, spread, torch.nan)
        # The base class would remove the axis of a single target from tensors, but not from lists.
        return {
            "mae": (absolute / self.count * std).tolist(),
            "rmse": ((squared / self.count).sqrt() * std).tolist(),
            "r2": (1 - squared / spread).tolist(),
        }
