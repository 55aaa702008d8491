"""Padded batches of series.

Letters: B series of a batch, T steps of the longest, F features, K targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

# A series (T, F), its class (-1: unknown), its targets (K,), and its index in the data set.
SeriesItem = tuple[Tensor, int, Tensor, int]


class SeriesBatch(NamedTuple):
    """Series padded with zeros to the longest of them.

    values (B, T, F) float32, lengths (B,) without padding, labels (B,) with -1 for unknown, targets
    (B, K) float32, where K may be 0, and indices (B,).
    """

    values: Tensor
    lengths: Tensor
    labels: Tensor
    targets: Tensor
    indices: Tensor


class SeriesDataset(Dataset[SeriesItem]):
    """Series (T, F), with their classes or with their targets (N, K), if either is known."""

    def __init__(
        self,
        values: Sequence[Tensor],
        labels: Sequence[int] | None = None,
        targets: Tensor | None = None,
    ) -> None:
        for answers in (labels, targets):
            if answers is not None and len(answers) != len(values):
                raise ValueError(f"{len(values)} series but {len(answers)} answers")
        self.values = [each.float() for each in values]
        self.labels = labels
        self.targets = torch.zeros(len(values), 0) if targets is None else targets.float()

    @property
    def lengths(self) -> list[int]:
        """Number of steps of each series, the argument of `BucketBatchSampler`."""
        return [len(values) for values in self.values]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> SeriesItem:
        label = -1 if self.labels is None else self.labels[index]
        return self.values[index], label, self.targets[index], index


def collate_series(items: Sequence[SeriesItem]) -> SeriesBatch:
    """Pad series to the longest of them."""
    values, labels, targets, indices = zip(*items)
    return SeriesBatch(
        pad_sequence(list(values), batch_first=True),
        torch.tensor([len(each) for each in values], dtype=torch.int64, device="cpu"),
        torch.tensor(labels, dtype=torch.int64, device="cpu"),
        torch.stack(list(targets)),
        torch.tensor(indices, dtype=torch.int64, device="cpu"),
    )
