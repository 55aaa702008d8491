"""Tokens drawn from a language model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from language_models import V, model_of

from seqnorm.models import LanguageModel


def generate(model: LanguageModel, seed: int = 0, length: int = 12, **options: Any) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return model.generate([2, 3, 4], length, generator=generator, **options)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("norm", ["layer", "batch", "batch_pooled", None])
def test_the_most_probable_token_is_that_of_the_whole_text(
    norm: str | None, window: int | None
) -> None:
    model = model_of(norm=norm, zoneout=0.1).eval()
    drawn = generate(model, top_k=1, window=window)
    assert len(drawn) == 12
    text = [2, 3, 4, *drawn]
    states, expected = None, []
    for start in range(0, len(text) - 1, window or len(text)):
        piece = torch.tensor([text[start : min(start + (window or len(text)), len(text) - 1)]])
        logits, states = model(piece, None, states)
        expected += logits[0].argmax(-1).tolist()
    assert drawn == expected[2:]


def test_draws_repeat_and_are_those_asked_for() -> None:
    model = model_of().eval()
    assert generate(model, 1) == generate(model, 1)
    assert len({tuple(generate(model, seed)) for seed in range(5)}) > 1
    assert not any({0, 5, 7} & set(generate(model, seed, never=[5, 7])) for seed in range(5))
    assert generate(model, temperature=1e-4) == generate(model, top_k=1)
    ended = [generate(model, seed, stop=5) for seed in range(20)]
    assert any(len(drawn) < 12 for drawn in ended)
    assert not any(5 in drawn for drawn in ended)
    assert generate(model, length=0) == []


def test_draws_have_the_probabilities_of_the_model() -> None:
    model = model_of(num_layers=1).eval()
    logits, _ = model(torch.tensor([[2, 3, 4]]))
    scaled = logits[0, -1].detach() / 2.0
    best = scaled.topk(3).indices
    chances = torch.zeros(V).double()
    chances[best] = scaled[best].softmax(0)
    counts = torch.zeros(V).double()
    generator = torch.Generator().manual_seed(0)
    n = 2000
    for _ in range(n):
        (drawn,) = model.generate([2, 3, 4], 1, generator=generator, temperature=2.0, top_k=3)
        counts[drawn] += 1
    deviation = (n * chances * (1 - chances)).sqrt()
    assert bool(((counts - n * chances).abs() <= 5 * deviation).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
    ],
)
def test_draws_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model_of().eval(), **options)
    with pytest.raises(ValueError, match="at least one token"):
        model_of().eval().generate([], 3, generator=torch.Generator())
