"""``from_torch`` and ``to_torch``: converted weights, and parameters that torch lacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_torch import CELLS, F64, LAYERS, B, H, I, T, fresh, states, tensors
from hidden_states import as_hx
from tolerances import SINGLE, VALUES, assert_close, assert_equal
from torch import nn

import seqnorm

PAIRS: list[tuple[str, str]] = [
    (name, cell) for name, cells in seqnorm.PRESETS.items() for cell in cells if cell in LAYERS
]
# Presets without a vector that is added to the gates, so torch's biases have no place.
WITHOUT = [pair for pair in PAIRS if pair[0] == "nemo_batch"]
PLACED = [pair for pair in PAIRS if pair not in WITHOUT]
# Presets with a bias inside a norm, where torch's vector has another meaning.
INSIDE = [("kiros2016", "LSTM"), ("kiros2016", "GRU"), ("icefall", "LSTM"), ("icefall", "GRU")]


EXTRA = {"LSTM": {"proj_size": 2}, "GRU": {}, "RNN": {"nonlinearity": "relu"}}


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_from_torch_takes_the_matrices(name: str, kind: str) -> None:
    theirs, ours = LAYERS[kind]
    options = EXTRA[kind] | {"bias": (name, kind) not in WITHOUT}
    reference = theirs(I, H, 2, bidirectional=True, batch_first=True, dtype=F64, **options).eval()
    layer = ours.from_torch(reference, norm=name)
    for option, value in options.items():
        assert getattr(layer, option) == value
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


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PLACED if pair not in INSIDE])
def test_from_torch_places_the_biases(name: str, kind: str) -> None:
    """With zero matrices every norm returns its bias alone, and the gates equal torch's."""
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, dtype=F64)
    with torch.no_grad():
        reference.weight_ih_l0.zero_()
        reference.weight_hh_l0.zero_()
        if name == "dreamer":  # r * (W h + b), one norm over the sum: torch's r * b_hn is b_n here
            reference.bias_ih_l0[2 * H :].zero_()
    layer = ours.from_torch(reference, norm=name).eval()
    x, (h0, *c0) = fresh(1, B, I, seed=1), states(kind, {}, (B,))
    if kind == "RNN" and layer.norm.sum is not None:
        # With one gate, a norm of the sum has a single bias: the sum of torch's two.
        assert_close(layer.norm_sum_l0.bias, reference.bias_ih_l0 + reference.bias_hh_l0, VALUES)
    if kind != "LSTM":
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
    options = {"bidirectional": True, "batch_first": True, "dropout": 0.5, "bias": bias}
    theirs, ours = LAYERS[kind]
    reference = theirs(I, H, 2, dtype=F64, **options, **EXTRA[kind]).eval()
    layer = ours.from_torch(reference)
    back = layer.to_torch()
    assert type(back) is theirs
    assert repr(back) == repr(reference)
    for name in (*options, *EXTRA[kind]):
        assert getattr(back, name) == getattr(layer, name) == getattr(reference, name), name
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
@pytest.mark.parametrize("kind", LAYERS)
def test_to_torch_refuses_what_torch_lacks(kind: str, what: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"torch\.nn\.{kind} has no {what}"):
        LAYERS[kind][1](I, H, **{what: value}).to_torch()


BARE = seqnorm.NormScheme(input=seqnorm.Norm("layer", bias=None), bias_ih=None)
BARE_SUM = seqnorm.NormScheme(sum=seqnorm.Norm("layer", bias=None), bias_ih=None)
AT_THE_OUTPUT = seqnorm.NormScheme(output=seqnorm.Norm("layer"), bias_ih=None)


@pytest.mark.parametrize("norm", ["nemo_batch", BARE, BARE_SUM, AT_THE_OUTPUT])
@pytest.mark.parametrize("kind", LAYERS)
def test_from_torch_refuses_biases_without_a_place(kind: str, norm: Any) -> None:
    """A bias of the frame's or the output's norm is not a bias of the gates."""
    theirs, ours = LAYERS[kind]
    with pytest.raises(ValueError, match=r'bias_ih="outside"'):
        ours.from_torch(theirs(I, H), norm=norm)
    without = ours.from_torch(theirs(I, H, bias=False), norm=norm)
    assert without.bias_ih_l0 is None
    if norm == AT_THE_OUTPUT:
        return  # cells do not have it
    theirs, ours = CELLS[f"{kind}Cell"]
    with pytest.raises(ValueError, match=r'bias_ih="outside"'):
        ours.from_torch(theirs(I, H), norm=norm)
    assert ours.from_torch(theirs(I, H, bias=False), norm=norm).bias_ih is None


@pytest.mark.parametrize("theirs", LAYERS)
@pytest.mark.parametrize("ours", LAYERS)
def test_from_torch_names_the_class_it_takes(ours: str, theirs: str) -> None:
    for end, pairs in (("", LAYERS), ("Cell", CELLS)):
        cls, module = pairs[ours + end][1], pairs[theirs + end][0](I, H)
        if ours == theirs:
            assert type(cls.from_torch(module)) is cls
            continue
        with pytest.raises(TypeError, match=rf"takes a torch\.nn\.{ours}{end}, got {theirs}{end}"):
            cls.from_torch(module)
    for cls, module in (
        (LAYERS[ours][1], CELLS[f"{ours}Cell"][0](I, H)),
        (CELLS[f"{ours}Cell"][1], LAYERS[ours][0](I, H)),
    ):
        with pytest.raises(TypeError, match=rf"{cls.__name__}\.from_torch takes"):
            cls.from_torch(module)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in LAYERS), ("RNN", {"nonlinearity": "relu"})]
)
def test_a_cell_from_torchs(kind: str, options: dict[str, str], bias: bool) -> None:
    theirs, ours = CELLS[f"{kind}Cell"]
    reference = theirs(I, H, bias, dtype=F64, **options).eval()
    cell = ours.from_torch(reference)
    assert (cell.training, cell.bias) == (False, bias)
    assert getattr(cell, "nonlinearity", "tanh") == options.get("nonlinearity", "tanh")
    x, hx = fresh(B, I, seed=1), as_hx([part[0] for part in states(kind, {}, (B,))])
    for a, e in zip(tensors(cell(x, hx)), tensors(reference(x, hx))):
        assert_close(a, e, VALUES)
    with torch.no_grad():
        cell.weight_ih.zero_()
    assert bool(reference.weight_ih.any()), "from_torch copies"


@pytest.mark.parametrize(("name", "kind"), PLACED)
def test_a_cell_takes_what_the_layer_takes(name: str, kind: str) -> None:
    """A converted cell has the same matrices, biases and norms as a converted layer."""
    reference = LAYERS[kind][0](I, H, dtype=F64)
    single = CELLS[f"{kind}Cell"][0](I, H, dtype=F64)
    single.load_state_dict({k.replace("_l0", ""): v for k, v in reference.state_dict().items()})
    torch.manual_seed(7)
    layer = LAYERS[kind][1].from_torch(reference, norm=name)
    torch.manual_seed(7)  # for random norms
    cell = CELLS[f"{kind}Cell"][1].from_torch(single, norm=name)
    assert cell.norm == layer.norm
    expected = {k.replace("_l0", ""): v for k, v in layer.state_dict().items()}
    assert list(cell.state_dict()) == list(expected)
    for key, value in cell.state_dict().items():
        assert_equal(value, expected[key], key)


def test_a_converted_layer_may_learn_its_initial_state() -> None:
    for theirs, ours in ((nn.LSTM(3, 4), seqnorm.LSTM), (nn.GRUCell(3, 4), seqnorm.GRUCell)):
        new: Any = ours.from_torch(theirs, learn_initial_state=True)  # type: ignore[attr-defined]  # of both
        assert not new.h_0.any()
        assert_close(new(torch.ones(2, 3))[0], theirs(torch.ones(2, 3))[0], SINGLE)
