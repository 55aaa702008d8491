"""Word vectors from co-occurrences, against a dense computation with plain loops."""

from __future__ import annotations

import math
import random

import pytest
import torch

from seqnorm.models import cooccurrence_embedding

V = 14
WINDOW = 3


def documents() -> list[list[int]]:
    draw = random.Random(1)
    return [[draw.randrange(1, V) for _ in range(draw.randrange(12))] for _ in range(40)]


def dense(texts: list[list[int]]) -> torch.Tensor:
    counts = [[0.0] * V for _ in range(V)]
    for text in texts:
        for here, one in enumerate(text):
            for there, other in enumerate(text):
                if here != there and abs(here - there) <= WINDOW:
                    counts[one][other] += 1 / abs(here - there)
    rows = [sum(row) for row in counts]
    smoothed = sum(row**0.75 for row in rows)
    ppmi = torch.zeros(V, V)
    for one in range(2, V):
        for other in range(2, V):
            if counts[one][other]:
                chance = rows[one] * rows[other] ** 0.75 / smoothed
                ppmi[one, other] = max(0.0, math.log(counts[one][other] / chance))
    return ppmi


def test_vectors_are_the_truncated_decomposition_of_the_ppmi() -> None:
    vectors = cooccurrence_embedding(documents(), V, 6, window=WINDOW, std=0.3)
    u, s, _ = torch.linalg.svd(dense(documents()))
    expected = u[:, :6] * s[:6].sqrt()
    # Vectors are defined up to the sign of each feature and a common factor.
    expected *= 0.3 / expected[2:].square().mean().sqrt()
    gram, expected_gram = vectors @ vectors.T, expected @ expected.T
    torch.testing.assert_close(gram, expected_gram, rtol=1e-3, atol=1e-3)
    assert not vectors[:2].any()
    assert vectors.shape == (V, 6)


def test_it_repeats_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first = cooccurrence_embedding(documents(), V, 6)
    second = cooccurrence_embedding(documents(), V, 6)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_seeds_no_other_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "manual_seed")  # it would also seed GPUs
    cooccurrence_embedding(documents(), V, 6)


def test_pairs_do_not_cross_documents() -> None:
    apart = cooccurrence_embedding([[2, 3], [4, 5]], 6, 4)
    assert abs(float(apart[3] @ apart[4])) < 1e-6
    assert float(apart[2] @ apart[2]) > 0


def test_a_small_vocabulary_fills_the_other_features_with_zeros() -> None:
    vectors = cooccurrence_embedding(documents(), V, 50)
    assert vectors.shape == (V, 50)
    assert torch.isfinite(vectors).all()
    assert not vectors[:, V:].any()


@pytest.mark.parametrize("texts", [[], [[]], [[2], [3]], [[0, 1], [1, 5]]])
def test_nothing_near_anything_is_refused(texts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="start from random vectors"):
        cooccurrence_embedding(texts, V, 4)
