"""Scaling uses all valid steps of the training part, and is plain data."""

from __future__ import annotations

import json
import random

import pytest
import torch
from tolerances import VALUES, assert_close

from seqnorm.datasets import Scaling


def test_against_sums_over_single_numbers() -> None:
    draw = random.Random(0)
    series = [
        [[draw.gauss(5, 2), draw.gauss(-1e3, 1e-1)] for _ in range(steps)] for steps in (1, 7, 3)
    ]
    found = Scaling.of(("a", "b"), [torch.tensor(each, dtype=torch.float64) for each in series])
    for feature in (0, 1):
        values = [step[feature] for each in series for step in each]
        mean = sum(values) / len(values)
        std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert found.mean[feature] == pytest.approx(mean, rel=1e-12)
        assert found.std[feature] == pytest.approx(std, rel=1e-6)
    whole = torch.cat([torch.tensor(each, dtype=torch.float64) for each in series])
    scaled = found.apply(whole)
    assert_close(scaled.mean(0), torch.zeros(2, dtype=torch.float64), VALUES)
    assert_close(found.undo(scaled), whole, VALUES)


@pytest.mark.parametrize("constant", [0.0, 3.0, 0.1, -1e9])
def test_a_constant_feature_is_shifted_alone(constant: float) -> None:
    found = Scaling.of(("a",), [torch.full((n, 1), constant, dtype=torch.float64) for n in (3, 7)])
    assert found.std == (1.0,)
    assert abs(found.mean[0] - constant) <= 1e-15 * abs(constant)


def test_nothing_changes_without_scaling() -> None:
    x = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(Scaling.none(("a", "b")).apply(x), x)


def test_json() -> None:
    scaling = Scaling(("ä", "b c"), (0.1, -2.0), (1e-3, 3.0))
    assert Scaling.from_json(scaling.to_json()) == scaling
    assert set(json.loads(scaling.to_json())) == {"names", "mean", "std"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"names": ["a"], "mean": [0], "std": [0]}',
        '{"names": ["a"], "mean": [NaN], "std": [1]}',
        '{"names": ["a"], "mean": [0], "std": [Infinity]}',
        '{"names": ["a"], "mean": [0, 1], "std": [1]}',
        '{"names": [], "mean": [], "std": []}',
        '{"names": [1], "mean": [0], "std": [1]}',
        '{"names": ["a"], "mean": [true], "std": [1]}',
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scaling"):
        Scaling.from_json(text)
