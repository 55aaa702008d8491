"""The nonlinearity of LiGRU, RNN and IndRNN in the kernels, tanh or ReLU.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    NONLINEAR,
    Call,
    assert_same,
    assert_single,
    build,
    each_variant,
    needs_kernels,
    outcome,
    refusal,
    taken,
)
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.backends.cpu.plan import plan_of

pytestmark = needs_kernels
I, H = 5, 19  # noqa: E741  the axes' letters
LENGTHS = [3, 0, 6, 5, 6, 2, 6]
TAKEN = {name: pair for name, pair in taken().items() if pair[0] in NONLINEAR}


def other(cell: str) -> str:
    """Return the nonlinearity that is not the default of a cell."""
    return "tanh" if cell == "LiGRU" else "relu"


@pytest.mark.parametrize("name", TAKEN)
def test_every_norm_with_the_other_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests take the default of each cell."""
    cell, norm = TAKEN[name]
    for options in ({}, {"num_layers": 2, "bidirectional": True, "zoneout": 0.3}):
        layer = build(cell, norm, I, H, nonlinearity=other(cell), **options)
        call = Call.draw(layer, LENGTHS)
        layer(call.input, lengths=LENGTHS)  # update the statistics that inference reads
        for training in (True, False):
            layer.train(training)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, variant)
            if not options:
                assert_single(layer, call, expected, variant)


@pytest.mark.parametrize("cell", NONLINEAR)
def test_prepared_calls(cell: str) -> None:
    for nonlinearity in ("tanh", "relu"):
        layer = build(cell, "layer", I, H, nonlinearity=nonlinearity, num_layers=2).eval()
        x = torch.randn(4, 3, I, dtype=F64)
        with torch.no_grad():
            found, _ = layer(x)
            assert layer._prepared is not None
            with seqnorm.use_backend("reference"):
                assert_close(found, layer(x)[0], VALUES, nonlinearity)


@pytest.mark.parametrize("cell", NONLINEAR)
def test_a_nonlinearity_set_later(cell: str) -> None:
    """The next call takes it, recorded or prepared."""
    layer = build(cell, "layer", I, H, nonlinearity="tanh")
    x = torch.randn(4, 3, I, dtype=F64)
    for recording in (True, False):
        with torch.set_grad_enabled(recording):
            for nonlinearity in ("tanh", "relu", "tanh"):
                layer.step.nonlinearity = nonlinearity
                found, _ = layer(x)
                with seqnorm.use_backend("reference"):
                    assert_close(found.detach(), layer(x)[0].detach(), VALUES, nonlinearity)
                assert plan_of(layer.directions()[0]).relu == (nonlinearity == "relu")


@needs_compiler
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("cell", NONLINEAR)
def test_compiled_layers(cell: str, nonlinearity: str) -> None:
    torch._dynamo.reset()
    layer = build(cell, "layer", I, H, nonlinearity=nonlinearity)
    call = Call.draw(layer, None)
    leaves = list(layer.parameters())
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found, expected = (
        torch.autograd.grad(one(call.input)[0].square().sum(), leaves) for one in (fast, layer)
    )
    for a, e in zip(found, expected):
        assert_close(a, e, GRADIENTS)
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("cell", NONLINEAR)
def test_relu_at_zero_and_of_nan(
    cell: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The derivative at 0 is 0, and NaN stays NaN, as in torch."""
    layer = getattr(seqnorm, cell)(1, 9, nonlinearity="relu", zoneout=0.5, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0[:9] = 1.0
    for zoneout in (0.0, 0.5):
        layer.zoneout = zoneout
        for _ in each_variant(monkeypatch):
            gradients, values = [], []
            for backend in ("cpu", "reference"):
                x = torch.tensor([-1.0, -0.0, 0.0, 2.0, torch.inf, torch.nan], dtype=dtype)
                x.requires_grad_()
                with seqnorm.use_backend(backend):
                    # One sequence each, so that a NaN reaches no other.
                    output, _ = layer(x[None, :, None])
                values.append(output.detach())
                gradients += torch.autograd.grad(output[:, :5].sum(), x)
            assert values[0].isnan().equal(values[1].isnan())
            assert values[0][0, 5].isnan().all()
            assert_equal(values[0][0, :4], values[1][0, :4])
            assert_equal(gradients[0][:4], gradients[1][:4])
            assert not gradients[0][:3].any()
            assert bool(gradients[0][3] > 0)


def test_the_plain_layers() -> None:
    """torch computes its RNN without a norm; of LiGRU and IndRNN it has no layer."""
    x = torch.randn(4, 3, I)
    for cell in NONLINEAR:
        layer: Any = getattr(seqnorm, cell)(I, H)
        assert refusal(layer) is None
        reasons = seqnorm.explain(layer, x).reasons["_l0"]
        assert (reasons["aten"] is None) == (cell == "RNN")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqnorm.IndRNN(I, H)(x)
