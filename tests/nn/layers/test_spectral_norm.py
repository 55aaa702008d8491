"""Spectral normalisation of a recurrent matrix (Miyato et al. 2018) with torch's parametrization.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from beside_reference import F64, needs_kernels
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

import seqnorm

I, H, T, B = 3, 5, 6, 4  # noqa: E741  the axes' letters
LENGTHS = [6, 4, 0, 3]
PATH = "parametrizations.weight_hh_l0"


def build(kind: str, norm: str | None) -> Any:
    layer = getattr(seqnorm, kind)(I, H, norm=norm, dtype=F64)
    return spectral_norm(layer, "weight_hh_l0", n_power_iterations=30)


def computed(layer: Any, x: Tensor, backend: str) -> dict[str, Tensor]:
    """Return outputs, states, all gradients and the buffers of one call in training."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    with seqnorm.use_backend(backend):
        output, state = layer(x, lengths=LENGTHS)
    state = state if isinstance(state, tuple) else (state,)
    generator = torch.Generator().manual_seed(5)
    loss = torch.zeros((), dtype=F64)
    for part in (output, *state):
        loss = loss + (part * torch.randn(part.shape, generator=generator, dtype=F64)).sum()
    loss.backward()
    found = {"output": output, **{f"state {k}": part for k, part in enumerate(state)}}
    found["gradient of x"] = x.grad
    found |= {f"gradient of {name}": p.grad for name, p in layer.named_parameters()}
    return found | dict(layer.named_buffers())


@needs_kernels
@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_kernels_stay_in_use_and_agree_with_the_definition(kind: str, norm: str) -> None:
    layer, x = build(kind, norm), torch.randn(T, B, I, dtype=F64)
    assert seqnorm.explain(layer, x, LENGTHS).backends == {"_l0": "cpu"}
    found, expected = (computed(layer, x, backend) for backend in ("cpu", "reference"))
    assert list(found) == list(expected)
    assert f"gradient of {PATH}.original" in found
    assert f"{PATH}.0._u" in found
    for name, right in expected.items():
        tolerance = GRADIENTS if name.startswith("gradient") else VALUES
        assert_close(found[name], right, tolerance if right.is_floating_point() else 0.0, name)


@pytest.mark.parametrize("norm", ["layer", None])
def test_the_matrix_in_use_has_spectral_norm_one(norm: str | None) -> None:
    layer, x = build("LSTM", norm).eval(), torch.randn(T, B, I, dtype=F64)
    weight = layer.weight_hh_l0.detach()
    original = layer.parametrizations.weight_hh_l0.original.detach()
    sigma = torch.linalg.matrix_norm(original, 2)
    assert_close(weight, original / sigma, 1e-6)  # the iterations approach it
    plain = seqnorm.LSTM(I, H, norm=norm, dtype=F64).eval()
    state = {k: v for k, v in layer.state_dict().items() if not k.startswith(PATH)}
    plain.load_state_dict(state | {"weight_hh_l0": weight})
    assert_close(layer(x)[0], plain(x)[0], VALUES)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert_close(layer(x)[0], plain(x)[0], VALUES)


def test_the_gradient_through_the_spectral_norm_by_hand() -> None:
    """With W = V / s, s = u'Vv, the gradient of V is (G - sum(G * W) u v') / s."""
    layer, x = build("LSTM", "layer").eval(), torch.randn(T, B, I, dtype=F64)
    plain = seqnorm.LSTM(I, H, norm="layer", dtype=F64).eval()
    state = {k: v for k, v in layer.state_dict().items() if not k.startswith(PATH)}
    plain.load_state_dict(state | {"weight_hh_l0": layer.weight_hh_l0.detach()})
    cotangent = torch.randn(T, B, H, dtype=F64)
    for each in (layer, plain):
        (each(x)[0] * cotangent).sum().backward()
    parts = layer.parametrizations.weight_hh_l0
    u, v, original = parts[0]._u, parts[0]._v, parts.original.detach()
    sigma, weight = u @ original @ v, plain.weight_hh_l0.detach()
    of_weight = plain.weight_hh_l0.grad
    assert of_weight is not None
    expected = (of_weight - (of_weight * weight).sum() * torch.outer(u, v)) / sigma
    assert_close(parts.original.grad, expected, GRADIENTS)
