"""Recipes of the documentation: parametrisations of torch, and the cosine of weight and state.

Axes: R rows of a weight, K numbers in a row.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from comparing import H, I
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import seqnorm
from seqnorm import Norm, NormScheme

F64 = torch.float64
T, B = 6, 3
LENGTHS = [6, 2, 4]


def layer_of(kind: str, norm: Any, **options: Any) -> Any:
    return getattr(seqnorm, kind)(I, H, norm=norm, dtype=F64, **options)


def result(layer: Any, x: Tensor, cotangent: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    output = layer(x, lengths=LENGTHS)[0]
    return [output, *torch.autograd.grad(output, leaves, cotangent)]


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "IndRNN"])
def test_weight_norm(kind: str, norm: str | None) -> None:
    """Each row is g v / |v|, and the gradients of g and v are those of this fraction."""
    layer = layer_of(kind, norm, num_layers=2, bidirectional=True)
    names = [name for name, _ in layer.named_parameters() if name.startswith("weight_")]
    assert len(names) == 8
    before = seqnorm.explain(layer, torch.zeros(T, B, I, dtype=F64), LENGTHS)
    for name in names:
        parametrizations.weight_norm(layer, name)
    assert seqnorm.explain(layer, torch.zeros(T, B, I, dtype=F64), LENGTHS) == before
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    plain = layer_of(kind, norm, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    cotangent = torch.randn(T, B, 2 * H, dtype=F64)
    leaves, computed = [], {}
    for name in names:
        pair = [layer.get_parameter(f"parametrizations.{name}.original{k}") for k in (0, 1)]
        g, v = (part.detach().clone().requires_grad_() for part in pair)
        leaves += [g, v]
        rows = []
        for r in range(len(v)):
            length = sum(number**2 for number in v[r].reshape(-1)) ** 0.5
            rows.append(g[r] * v[r] / length)
        computed[name] = torch.stack(rows)
    kept = {k: v for k, v in layer.state_dict().items() if not k.startswith("parametrizations")}
    plain.load_state_dict(kept | computed)
    weights = [plain.get_parameter(name) for name in names]
    output, dx, *of_weights = result(plain, x, cotangent, [x, *weights])
    expected = torch.autograd.grad([computed[name] for name in names], leaves, of_weights)
    paths = [f"parametrizations.{name}.original{k}" for name in names for k in (0, 1)]
    originals = [layer.get_parameter(path) for path in paths]
    found = result(layer, x, cotangent, [x, *originals])
    assert_close(found[0], output, VALUES)
    for actual, wanted in zip(found[1:], (dx, *expected)):
        assert_close(actual, wanted, GRADIENTS)


@pytest.mark.parametrize("chunks", [None, 2])
@pytest.mark.parametrize("norm", [None, "layer"])
def test_spectral_norm(norm: str | None, chunks: int | None) -> None:
    """The largest singular value of W_hh is 1, and the gradient is that of W / sigma."""
    layer = layer_of("LSTM", norm)
    parametrizations.spectral_norm(layer, "weight_hh_l0", n_power_iterations=200)
    if chunks is not None:
        seqnorm.compute_in_chunks(layer, chunks, recompute=True)
    x = torch.randn(T, B, I, dtype=F64)
    cotangent = torch.randn(T, B, H, dtype=F64)
    original = layer.get_parameter("parametrizations.weight_hh_l0.original")
    layer(x)  # the power iterations of training
    layer.eval()
    weight = layer.weight_hh_l0
    assert_close(torch.linalg.matrix_norm(weight.detach(), 2), torch.ones((), dtype=F64), VALUES)
    output, found = result(layer, x, cotangent, [original])
    free = original.detach().clone().requires_grad_()
    divided = free / torch.linalg.svd(free).S[0]
    plain = layer_of("LSTM", norm)
    kept = {k: v for k, v in layer.state_dict().items() if not k.startswith("parametrizations")}
    plain.load_state_dict(kept | {"weight_hh_l0": divided})
    expected, of_weight = result(plain, x, cotangent, [plain.weight_hh_l0])
    assert_close(output, expected, VALUES)
    (wanted,) = torch.autograd.grad(divided, free, of_weight)
    assert_close(found, wanted, GRADIENTS)


class CentredColumns(nn.Module):
    """Subtract the mean of each column of a weight, over all outputs or those of each gate."""

    def __init__(self, gates: int = 1) -> None:
        super().__init__()
        self.gates = gates

    def forward(self, weight: Tensor) -> Tensor:
        blocks = weight.unflatten(0, (self.gates, -1))
        return (blocks - blocks.mean(1, keepdim=True)).flatten(0, 1)


@pytest.mark.parametrize(("sets", "gates"), [("joint", 1), ("separate", 4)])
def test_centred_columns_turn_rms_norm_into_layer_norm(sets: str, gates: int) -> None:
    """The mean of W h over the outputs is that of the columns of W, times h."""

    def scheme(kind: str) -> NormScheme:
        return NormScheme(input=Norm(kind, sets), hidden=Norm(kind, sets))

    of_layer, of_rms = layer_of("LSTM", scheme("layer")), layer_of("LSTM", scheme("rms"))
    for parameter in of_layer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    of_rms.load_state_dict(of_layer.state_dict())
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parametrize.register_parametrization(of_rms, name, CentredColumns(gates))
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    cotangent = torch.randn(T, B, H, dtype=F64)
    names = [name for name, _ in of_layer.named_parameters()]
    leaves = [of_layer.get_parameter(name) for name in names]
    before = "parametrizations.{}.original".format
    theirs = [of_rms.get_parameter(before(n) if n.startswith("weight_") else n) for n in names]
    found = result(of_rms, x, cotangent, [x, *theirs])
    for actual, wanted in zip(found, result(of_layer, x, cotangent, [x, *leaves])):
        assert_close(actual, wanted, GRADIENTS)


@pytest.mark.usefixtures("forgotten_steps")
def test_cosine_normalisation() -> None:
    class CosineStep(seqnorm.Step):
        gates = "h"
        biases = ("bias_ih",)
        parameters: ClassVar[dict[str, Any]] = {"k": ("H",)}

        def hidden_term(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return F.linear(F.normalize(h, dim=-1), F.normalize(weight, dim=-1), bias)

        def step(  # type: ignore[override]  # a parameter of its own
            self, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any, k: Tensor
        ) -> tuple[Tensor]:
            return ((x + k * h).tanh(),)

    layer = seqnorm.RecurrentLayer(CosineStep(), I, H, dtype=F64)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    start = torch.randn(1, B, H, dtype=F64)
    leaves = [x, *layer.parameters()]
    output, _ = layer(x, start)
    named = dict(layer.named_parameters())
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "k_l0")
    w_ih, w_hh, b, k = (named[name] for name in names)
    states = list(start[0])
    rows = []
    for t in range(T):
        for n in range(B):
            h, new = states[n], []
            length = (h * h).sum() ** 0.5
            for j in range(H):
                cosine = (w_hh[j] * h).sum() / (length * (w_hh[j] * w_hh[j]).sum() ** 0.5)
                net = (w_ih[j] * x[t, n]).sum() + b[j] + k[j] * cosine
                new.append(torch.tanh(net))
            states[n] = torch.stack(new)
        rows.append(torch.stack(states))
    expected = torch.stack(rows)
    assert_close(output, expected, VALUES)
    cotangent = torch.randn_like(output)
    found = torch.autograd.grad(output, leaves, cotangent)
    for actual, wanted in zip(found, torch.autograd.grad(expected, leaves, cotangent)):
        assert_close(actual, wanted, GRADIENTS)
