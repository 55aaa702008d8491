"""Masks of padded signals and images: from sizes, and in the form that norms need."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from seqnorm import size_mask
from seqnorm.nn.statistics.masks import most_valid, position_mask


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([[3], [0], [5]], (5,)),
        ([[2, 3], [0, 4], [3, 0], [3, 4]], (3, 4)),
        ([[1, 2, 3], [2, 2, 2], [2, 3, 4]], (2, 3, 4)),
    ],
)
def test_size_mask(sizes: list[list[int]], shape: tuple[int, ...]) -> None:
    mask = size_mask(sizes, shape)
    assert mask.dtype == torch.bool
    assert mask.shape == (len(sizes), 1, *shape)
    for n, own in enumerate(sizes):
        for place in itertools.product(*(range(size) for size in shape)):
            assert mask[(n, 0, *place)] == all(p < s for p, s in zip(place, own))
    assert size_mask(torch.tensor(sizes, dtype=torch.int32), torch.Size(shape)).equal(mask)


def test_size_mask_of_signals_and_of_nothing() -> None:
    assert size_mask([2, 0], (3,)).equal(size_mask([[2], [0]], (3,)))
    narrow = torch.tensor([200, 0], dtype=torch.uint8)
    assert size_mask(narrow, (300,)).sum((1, 2)).tolist() == [200, 0]
    assert size_mask([], (3, 4)).shape == (0, 1, 3, 4)
    assert size_mask(torch.zeros(0, 2, dtype=torch.int64), (3, 4)).shape == (0, 1, 3, 4)


@pytest.mark.parametrize(
    ("sizes", "shape", "error", "message"),
    [
        ([[2.0, 1.0]], (3, 4), TypeError, r"whole numbers, got torch\.float32"),
        ([[True, False]], (3, 4), TypeError, r"whole numbers, got torch\.bool"),
        ([2, 1], (3, 4), ValueError, r"\(N, 2\) for the padded shape \(3, 4\), got \(2,\)"),
        ([[2, 1, 1]], (3, 4), ValueError, r"got \(1, 3\)"),
        ([[4, 4]], (3, 4), ValueError, r"within the padded shape \(3, 4\), got \[\[4, 4\]\]"),
        ([[3, -1]], (3, 4), ValueError, "within the padded shape"),
    ],
)
def test_size_mask_refuses(
    sizes: Any, shape: tuple[int, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        size_mask(sizes, shape)


@pytest.mark.parametrize("axis", [1, 3])
def test_position_mask(axis: int) -> None:
    full = torch.rand(2, 4, 5) < 0.5
    x = torch.zeros(2, 4, 5, 3).movedim(3, axis)
    expected = full.unsqueeze(axis)
    assert position_mask(full, x, axis).equal(expected)
    assert position_mask(expected, x, axis).equal(expected)
    for part in (full[:1], full[:, :1], full[:, :, :1]):
        assert position_mask(part, x, axis).equal(part.expand_as(full).unsqueeze(axis))


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((2, 1, 4, 5), torch.float32, TypeError, r"boolean, true where x is valid, got torch\.f"),
        ((2, 3, 4, 5), torch.bool, ValueError, r"\(2, 1, 4, 5\) or \(2, 4, 5\) for x \(2, 3, 4, 5"),
        ((2, 1, 4, 6), torch.bool, ValueError, r"got \(2, 1, 4, 6\)"),
        ((3, 4, 5), torch.bool, ValueError, r"got \(3, 4, 5\)"),
        ((4, 5), torch.bool, ValueError, r"got \(4, 5\)"),
    ],
)
def test_position_mask_refuses(
    shape: tuple[int, ...], dtype: torch.dtype, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        position_mask(torch.ones(shape, dtype=dtype), torch.zeros(2, 3, 4, 5))


def test_most_valid() -> None:
    x = torch.zeros(2, 3, 4, 5)
    mask = size_mask([[1, 2], [3, 1]], (4, 5))
    assert most_valid(None, x, (2, 3)) == 20
    assert most_valid(mask, x, (2, 3)) == 3
    assert most_valid(mask, x, (0, 2, 3)) == 5
    assert most_valid(torch.zeros_like(mask), x, (2, 3)) == 0
    assert most_valid(mask[:0], x[:0], (2, 3)) == most_valid(None, x[:, :, :0], (2, 3)) == 0
    assert most_valid(mask, x, (2, 3)) < math.inf
