"""Sequences without steps (T = 0), which torch refuses, leave the state unchanged in every form.

Axes: T steps, B sequences, I = input size, H = hidden size, L = layers, D = directions.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from beside_torch import tensors
from hidden_states import as_hx
from tolerances import assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H, B, L = 3, 8, 2, 2  # noqa: E741  the axes' letters
F64 = torch.float64
NORMS = [None, "layer", "rms", "batch", "batch_pooled"]
# Leading axes of the input and of the output, with time first.
FORMS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "batched": ((0, B), {}),
    "unbatched": ((0,), {}),
    "of lengths": ((0, B), {"lengths": [0, 0]}),
    "all padding": ((4, B), {"lengths": torch.tensor([0, 0])}),
}


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_nothing_happens(kind: str, norm: str | None, form: str, backend: str | None) -> None:
    axes, lengths = FORMS[form]
    for both, first, training in itertools.product((False, True), repeat=3):
        options = {"batch_first": first, "bidirectional": both, "dtype": F64, "norm": norm}
        layer = LAYERS[kind](I, H, L, **options).train(training)
        before = {key: value.clone() for key, value in layer.state_dict().items()}
        axes_given = axes[::-1] if first else axes
        x = torch.zeros(*axes_given, I, dtype=F64, requires_grad=True)
        entries = (L * (2 if both else 1), *axes[1:], H)
        hx = [torch.randn(entries, dtype=F64).requires_grad_() for _ in layer.step.states]
        with seqnorm.use_backend(backend) if backend else nullcontext():
            output, final = layer(x, as_hx(hx), **lengths)
            assert output.shape == (*axes_given, H * (2 if both else 1))
            assert not output.any()
            for a, e in zip(tensors(final), hx):
                assert_equal(a, e)
            total = output.sum() + sum(part.sum() for part in tensors(final))
            total.backward()
        for part in hx:
            assert_equal(part.grad, torch.ones_like(part))
        assert_all_zero(x.grad, *(parameter.grad for parameter in layer.parameters()))
        for key, value in layer.state_dict().items():
            assert_equal(value, before[key], key)


def assert_all_zero(*gradients: Tensor | None) -> None:
    for gradient in gradients:
        assert gradient is not None
        assert not gradient.any()
