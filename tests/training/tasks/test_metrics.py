"""Metrics by length against counts by hand, and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from seqnorm.training.results.scores import accuracy, macro_f1
from seqnorm.training.tasks.metrics import LengthBucketConfusion, RegressionErrors

PREDICTED = [0, 1, 1, 2, 2, 0, 1, 0]
LABELS = [0, 1, 2, 2, 1, 0, 1, 2]
LENGTHS = [0, 3, 4, 4, 5, 9, 10, 400]


def filled(edges: tuple[int, ...]) -> LengthBucketConfusion:
    metric = LengthBucketConfusion(3, edges)
    for part in (slice(0, 3), slice(3, 8)):
        columns = (torch.tensor(values[part]) for values in (PREDICTED, LABELS, LENGTHS))
        metric.update(*columns)
    return metric


def test_buckets_by_hand() -> None:
    metric = filled((4, 9))
    assert metric.names == ["0-4", "5-9", ">9"]
    confusion = metric.compute()
    # 0-4: (0,0) (1,1) (2,1) (2,2); 5-9: (1,2) (0,0); >9: (1,1) (2,0), as (class, predicted)
    assert confusion.tolist() == [
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
        [[1, 0, 0], [0, 0, 1], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [1, 0, 0]],
    ]
    assert [accuracy(bucket) for bucket in confusion] == [0.75, 0.5, 0.5]
    # In the second bucket class 0 has F1 1, class 1 has 0, class 2, only predicted, 0.
    assert macro_f1(confusion[1]) == pytest.approx(1 / 3)
    # In the third class 0, only predicted, has 0, class 1 has 1, class 2 has 0.
    assert macro_f1(confusion[2]) == pytest.approx(1 / 3)
    assert accuracy(confusion.sum(0)) == pytest.approx(5 / 8)


def test_overall_as_torchmetrics_has_it() -> None:
    predicted, labels = torch.randint(0, 5, (2, 300))
    metric = LengthBucketConfusion(7, ())  # two classes never occur
    metric.update(predicted, labels, torch.randint(0, 99, (300,)))
    assert metric.names == ["all"]
    (confusion,) = metric.compute()
    expected = multiclass_accuracy(predicted, labels, 7, average="micro")
    assert accuracy(confusion) == pytest.approx(float(expected))
    expected = multiclass_f1_score(predicted, labels, 7, average="macro")
    assert macro_f1(confusion) == pytest.approx(float(expected))


@pytest.mark.parametrize("edges", [(5, 5), (9, 4), (-1, 3)])
def test_bad_edges(edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="length_edges must increase from at least 0"):
        LengthBucketConfusion(3, edges)


@pytest.mark.parametrize("count", [1, 2])
def test_regression_errors_equal_those_of_all_examples_together(count: int) -> None:
    torch.manual_seed(0)
    std = torch.tensor([2.0, 0.1], dtype=torch.float64)[:count]
    predicted, targets = torch.randn(2, 11, count, dtype=torch.float64)
    metric = RegressionErrors(std.tolist())
    for part in (slice(0, 1), slice(1, 4), slice(4, 11)):
        metric.update(predicted[part], targets[part])
    found = metric.compute()
    error = (predicted - targets) * std
    goals = targets * std + 7
    assert found["mae"] == pytest.approx(error.abs().mean(0).tolist())
    assert found["rmse"] == pytest.approx(error.square().mean(0).sqrt().tolist())
    total = (goals - goals.mean(0)).square().sum(0)
    assert found["r2"] == pytest.approx((1 - error.square().sum(0) / total).tolist())


def test_regression_errors_in_half_precision() -> None:
    metric = RegressionErrors([2.0]).half()
    predicted = torch.tensor([[0.5]], dtype=torch.float16)
    for _ in range(5000):  # more than half precision can count
        metric.update(predicted, predicted + 1)
    assert metric.compute()["mae"] == pytest.approx([2.0], rel=1e-3)


def test_r2_of_equal_targets_is_not_a_number() -> None:
    metric = RegressionErrors([1.0])
    metric.update(torch.randn(5, 1), torch.full((5, 1), 0.3))
    found = metric.compute()
    assert math.isnan(found["r2"][0])
    assert math.isfinite(found["mae"][0])
