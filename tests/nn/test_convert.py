"""``from_torch`` and ``to_torch``: the weights that carry over, and what torch has no place for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_torch import F64, LAYERS, B, H, I, T, fresh, states, tensors
from tolerances import VALUES, assert_close, assert_equal
from torch import nn

import seqnorm

PAIRS: list[tuple[str, str]] = [
    (name, cell) for name, cells in seqnorm.PRESETS.items() for cell in cells
]
# Presets with a bias inside a norm, where torch's vector has another meaning than outside.
INSIDE = [("kiros2016", "LSTM"), ("kiros2016", "GRU"), ("icefall", "LSTM"), ("icefall", "GRU")]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_from_torch_takes_the_matrices(name: str, kind: str) -> None:
    extra = {"proj_size": 2} if kind == "LSTM" else {}
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, 2, bidirectional=True, batch_first=True, dtype=F64, **extra).eval()
    layer = ours.from_torch(reference, norm=name)
    assert layer.norm == seqnorm.preset(name, kind)
    assert not layer.training
    assert layer.batch_first
    assert layer.train().training
    writes = layer.norm.update == "write"
    for key, value in reference.state_dict().items():
        if key.startswith("weight"):
            expected = value.clone()
            if writes:
                expected[H : 2 * H] *= -1  # z takes the candidate
            assert_equal(layer.state_dict()[key], expected, key)


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair not in INSIDE])
def test_from_torch_places_the_biases(name: str, kind: str) -> None:
    """With zero matrices every norm of a term passes its bias alone, and the gates are torch's."""
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, dtype=F64)
    with torch.no_grad():
        reference.weight_ih_l0.zero_()
        reference.weight_hh_l0.zero_()
        if name == "dreamer":  # r * (W h + b), one norm over the sum: torch's r * b_hn is b_n here
            reference.bias_ih_l0[2 * H :].zero_()
    layer = ours.from_torch(reference, norm=name).eval()
    x, (h0, *c0) = fresh(1, B, I, seed=1), states(kind, {}, (B,))
    if kind == "GRU":
        assert_close(layer(x, h0)[1], reference(x, h0)[1], VALUES)
        return
    _, (h, c) = layer(x, (h0, *c0))
    _, (h_torch, c_torch) = reference(x, (h0, *c0))
    if layer.norm.cell_state == "normalised":
        c_torch = layer.norm_cell_l0(c_torch)
    assert_close(c, c_torch, VALUES)
    if layer.norm.cell is None:
        assert_close(h, h_torch, VALUES)


@pytest.mark.parametrize(("name", "kind"), INSIDE)
def test_from_torch_keeps_both_vectors_of_a_bias_inside(name: str, kind: str) -> None:
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, dtype=F64)
    layer = ours.from_torch(reference, norm=name)
    assert_equal(layer.bias_ih_l0, reference.bias_ih_l0)
    second = layer.bias_hh_l0 if layer.bias_hh_l0 is not None else layer.norm_hh_l0.bias
    assert_equal(second, reference.bias_hh_l0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_from_torch_and_back_without_a_norm(kind: str, bias: bool) -> None:
    extra = {"proj_size": 2} if kind == "LSTM" else {}
    options = {"bidirectional": True, "batch_first": True, "dropout": 0.5, "bias": bias, **extra}
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, 2, dtype=F64, **options).eval()
    layer = ours.from_torch(reference)
    back = layer.to_torch()
    assert type(back) is theirs
    assert repr(back) == repr(reference) == repr(layer)
    assert not back.training
    x = fresh(B, T, I, seed=1)
    for a, b, c in zip(tensors(layer(x)), tensors(reference(x)), tensors(back(x))):
        assert_close(a, b, VALUES)
        assert_equal(c, b)
    with torch.no_grad():
        back.weight_ih_l0.zero_()
    assert bool(layer.weight_ih_l0.any()), "to_torch copies"
    assert bool(reference.weight_ih_l0.any()), "from_torch copies"


@pytest.mark.parametrize(
    ("what", "value"), [("norm", "layer"), ("zoneout", 0.1), ("recurrent_dropout", 0.1)]
)
def test_to_torch_refuses_what_torch_lacks(what: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"torch\.nn\.LSTM has no {what}"):
        seqnorm.LSTM(I, H, **{what: value}).to_torch()


def test_from_torch_refuses_biases_without_a_place() -> None:
    scheme = seqnorm.NormScheme(input=seqnorm.Norm("layer", bias=None), bias_ih=None)
    with pytest.raises(ValueError, match=r'bias_ih="outside"'):
        seqnorm.LSTM.from_torch(nn.LSTM(I, H), norm=scheme)
    without = seqnorm.LSTM.from_torch(nn.LSTM(I, H, bias=False), norm=scheme)
    assert without.bias_ih_l0 is None


@pytest.mark.parametrize(("ours", "theirs"), [(seqnorm.LSTM, nn.GRU), (seqnorm.GRU, nn.LSTM)])
def test_from_torch_names_the_layer_it_takes(ours: Any, theirs: Any) -> None:
    with pytest.raises(TypeError, match=rf"{ours.__name__}.*{theirs.__name__}"):
        ours.from_torch(theirs(I, H))
