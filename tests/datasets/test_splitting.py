from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zipped import zipped

from seqnorm.datasets import DatasetError, Documents, split_last, split_validation


def documents(*labels: int) -> Documents:
    return Documents(tuple(f"text {i}" for i in range(len(labels))), labels)


@pytest.mark.parametrize("last", [False, True])
@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=20, max_size=200),
    fraction=st.floats(0.2, 0.8),
    seed=st.integers(0, 5),
)
def test_stratified_disjoint_and_complete(
    last: bool, labels: list[int], fraction: float, seed: int
) -> None:
    whole = documents(*labels)
    train, validation = (
        split_last(whole, fraction) if last else split_validation(whole, fraction, seed)
    )
    pairs = list(zipped(*whole))
    split = [*zipped(*train)], [*zipped(*validation)]
    assert sorted(split[0] + split[1]) == sorted(pairs)
    assert all(part == sorted(part, key=pairs.index) for part in split)
    sizes = Counter(labels)
    for label, count in Counter(validation.labels).items():
        assert abs(count - fraction * sizes[label]) <= 1
    assert set(train.labels) == set(labels)


def test_depends_on_seed_and_texts_but_not_on_order() -> None:
    whole = documents(*[0, 1] * 50)
    backwards = Documents(whole.texts[::-1], whole.labels[::-1])
    validation = split_validation(whole)[1]
    assert split_validation(whole)[1] == validation
    assert split_validation(backwards)[1].texts == validation.texts[::-1]
    assert split_validation(whole, seed=1)[1] != validation


def test_known_split() -> None:
    """A pinned split: no version or platform may move documents between the parts."""
    validation = split_validation(documents(*[0] * 20), 0.2)[1]
    assert validation.texts == ("text 2", "text 7", "text 15", "text 18")


def test_a_class_of_one_stays_in_train() -> None:
    train, validation = split_validation(documents(*[0] * 10, 1), 0.5)
    assert Counter(train.labels) == {0: 5, 1: 1}
    assert Counter(validation.labels) == {0: 5}


def test_the_last_of_every_class() -> None:
    train, validation = split_last(documents(0, 0, 1, 0, 2, 1, 0, 0, 1), 0.4)
    assert validation == (("text 6", "text 7", "text 8"), (0, 0, 1))
    assert train.texts == tuple(f"text {i}" for i in range(6))
    assert split_last(documents(0, 1, 0), 0.9)[1].texts == ("text 2",)


@pytest.mark.parametrize("split", [split_validation, split_last])
def test_bad_arguments(split: Callable[[Documents, float], object]) -> None:
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            split(documents(0, 1), fraction)
    with pytest.raises(DatasetError, match="take a larger fraction"):
        split(documents(0, 0, 1, 1), 0.1)
