"""Zoneout and recurrent dropout: the kept and the dropped units, and their frequency."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from hidden_states import as_hx, draw, parts_of, zeros
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.step import STEPS

F64 = torch.float64


def layer_of(kind: str, *args: Any, **options: Any) -> Any:
    """Build a layer without ReLU, which could leave a unit at 0 for two steps by chance."""
    chooses = "nonlinearity" in inspect.signature(LAYERS[kind]).parameters
    smooth = {"nonlinearity": "tanh"} if chooses else {}
    return LAYERS[kind](*args, **options, **smooth)


def chances(kind: str, p: float) -> tuple[float, ...]:
    """Return a probability for each part of the state; c, n and m of an SLSTM have no zoneout."""
    return {"SLSTM": (p, 0.0, 0.0, 0.0)}.get(kind, (p,) * len(STEPS[kind].states))


def within_binomial(hits: Tensor, p: float) -> bool:
    """Return True if the count is within five standard deviations."""
    n = hits.numel()
    return abs(int(hits.sum()) - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def single_step(kind: str, zoneout: Any, training: bool) -> tuple[list[Tensor], list[Tensor], Any]:
    """Return states before and after one step of 200 sequences, and the layer."""
    layer = layer_of(kind, 3, 52, zoneout=zoneout, dtype=F64).train(training)
    before = draw(kind, 1, 200, 52)
    _, final = layer(torch.randn(1, 200, 3, dtype=F64), as_hx(before))
    return list(before), list(parts_of(final)), layer


@pytest.mark.parametrize(
    ("kind", "zoneout", "expected"),
    [
        *((kind, 0.3, chances(kind, 0.3)) for kind in LAYERS),
        ("LSTM", (0.1, 0.6), (0.1, 0.6)),
        ("LSTM", (0.0, 0.5), (0.0, 0.5)),
        ("LSTM", (1.0, 0.0), (1.0, 0.0)),
        ("LSTM", [0.2, 0.7], (0.2, 0.7)),
        ("GRU", 1.0, (1.0,)),
        ("SLSTM", 1.0, (1.0, 0.0, 0.0, 0.0)),
    ],
)
def test_zoneout_keeps_units_with_its_probability(
    kind: str, zoneout: Any, expected: tuple[float, ...]
) -> None:
    before, after, _ = single_step(kind, zoneout, training=True)
    kept = [b == a for b, a in zip(before, after)]
    assert len(kept) == len(expected)
    for part, p in zip(kept, expected):
        assert within_binomial(part, p)
    if kind == "LSTM" and min(expected) > 0 and max(expected) < 1:
        assert within_binomial(kept[0] & kept[1], expected[0] * expected[1]), "drawn apart"


@pytest.mark.parametrize("kind", LAYERS)
def test_zoneout_draws_anew_at_every_step(kind: str) -> None:
    layer = layer_of(kind, 3, 52, zoneout=0.5, dtype=F64)
    output, _ = layer(torch.randn(3, 100, 3, dtype=F64))
    first, second = output[1] == output[0], output[2] == output[1]
    assert within_binomial(first, 0.5)
    assert within_binomial(second, 0.5)
    assert within_binomial(first & second, 0.25)


@pytest.mark.parametrize("norm", [None, seqnorm.NormScheme(input=seqnorm.Norm("layer"))])
@pytest.mark.parametrize("kind", LAYERS)
def test_zoneout_takes_its_expectation_in_inference(kind: str, norm: Any) -> None:
    zoneout = (0.2, 0.7) if kind == "LSTM" else 0.2
    layer = LAYERS[kind](3, 8, zoneout=zoneout, norm=norm, dtype=F64).eval()
    cell = getattr(seqnorm, f"{kind}Cell")(3, 8, norm=norm, dtype=F64).eval()
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x = torch.randn(6, 4, 3, dtype=F64)
    output, _ = layer(x)
    state = zeros(kind, 4, 8)
    for t in range(6):
        new = parts_of(cell(x[t], as_hx(state)))
        ps = zoneout if kind == "LSTM" else chances(kind, 0.2)
        state = [p * s + (1 - p) * n for s, n, p in zip(state, new, ps)]
        assert_close(output[t], state[0], VALUES)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_zoneout_at_its_ends(kind: str, training: bool) -> None:
    before, after, _ = single_step(kind, 1.0, training)
    for b, a, p in zip(before, after, chances(kind, 1.0)):
        if p:
            assert_equal(a, b, "p=1 keeps everything")
        else:
            assert not bool((a == b).any()), "and leaves alone what it does not speak of"
    layer = LAYERS[kind](3, 8, zoneout=0.0, dtype=F64).train(training)
    plain = LAYERS[kind](3, 8, dtype=F64).train(training)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(4, 2, 3, dtype=F64)
    assert_equal(layer(x)[0], plain(x)[0], "p=0 is no zoneout")


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_dropout_drops_the_same_weights_at_all_steps(kind: str, norm: Any) -> None:
    p, steps, size = 0.4, 5, 20
    layer = layer_of(kind, 3, size, recurrent_dropout=p, norm=norm, dtype=F64)
    weight = layer.weight_hh_l0
    with torch.no_grad():
        weight.normal_()
    x = torch.randn(steps, 8, 3, dtype=F64)
    output, _ = layer(x)
    dropped = []
    for t in range(1, steps):  # the state before step 0 is zero
        (grad,) = torch.autograd.grad(output[t].square().sum(), weight, retain_graph=True)
        dropped.append(grad == 0)
    for pattern in dropped[1:]:
        assert pattern.equal(dropped[0])
    assert within_binomial(dropped[0], p)
    plain = layer_of(kind, 3, size, norm=norm, dtype=F64)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "table" not in k}, False)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(torch.where(dropped[0], 0.0, weight / (1 - p)))
    assert_close(output, plain(x)[0], VALUES, "what is left is scaled up")
    again, _ = layer(x)
    assert not torch.allclose(again, output), "the next call draws anew"


@pytest.mark.parametrize("kind", LAYERS)
def test_recurrent_dropout_at_its_ends(kind: str) -> None:
    x = torch.randn(4, 2, 3, dtype=F64)
    layer = LAYERS[kind](3, 8, 2, recurrent_dropout=1.0, bidirectional=True, dtype=F64)
    plain = LAYERS[kind](3, 8, 2, bidirectional=True, dtype=F64)
    plain.load_state_dict(layer.state_dict())
    layer.eval()
    assert_equal(layer(x)[0], plain(x)[0], "inference drops nothing")
    layer.train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.startswith("weight_hh"):
                parameter.zero_()
    assert_close(layer(x)[0], plain(x)[0], VALUES, "p=1 drops all")
    for name, value in layer.state_dict().items():
        assert_equal(value, before[name], "the weight itself stays")


def test_recurrent_dropout_differs_between_layers_and_directions() -> None:
    layer = seqnorm.LSTM(4, 2, 2, recurrent_dropout=0.5, bidirectional=True, dtype=F64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    output, _ = layer(torch.randn(5, 3, 4, dtype=F64))
    names = [name for name, _ in layer.named_parameters() if name.startswith("weight_hh")]
    grads = torch.autograd.grad(output.square().sum(), [getattr(layer, name) for name in names])
    patterns = {tuple((grad == 0).flatten().tolist()) for grad in grads}
    assert len(patterns) == 4
