"""Padded batches of series."""

from __future__ import annotations

import pytest
import torch

from seqnorm.datasets import SeriesDataset, collate_series


def test_padding_with_zeros() -> None:
    values = [torch.randn(steps, 3, dtype=torch.float64) for steps in (2, 5, 1)]
    data = SeriesDataset(values, labels=[1, 0, 2])
    batch = collate_series([data[place] for place in (2, 0)])
    assert batch.values.shape == (2, 2, 3)
    assert batch.values.dtype == torch.float32
    assert batch.values[0, 1].tolist() == [0, 0, 0]
    assert torch.equal(batch.values[1], values[0].float())
    assert batch.lengths.tolist() == [1, 2]
    assert batch.labels.tolist() == [2, 1]
    assert batch.targets.shape == (2, 0)
    assert batch.indices.tolist() == [2, 0]
    assert data.lengths == [2, 5, 1]


def test_targets_and_series_without_an_answer() -> None:
    values = [torch.randn(2, 1) for _ in range(3)]
    targets = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    data = SeriesDataset(values, targets=targets)
    batch = collate_series([data[1], data[2]])
    assert batch.targets.tolist() == [[3, 4], [5, 6]]
    assert batch.labels.tolist() == [-1, -1]
    assert collate_series([SeriesDataset(values)[0]]).targets.shape == (1, 0)
    with pytest.raises(ValueError, match="3 series but 1 answers"):
        SeriesDataset(values, labels=[1])
