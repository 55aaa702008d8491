"""Layers of both families: they compute as ours and are instances of torch's classes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from beside_torch import F64, LAYERS, B, H, I, T, fresh, tensors
from hidden_states import as_hx
from tolerances import SINGLE, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm
from seqnorm.integrations import torch_rnn

NORMS = [None, "layer", "batch"]
# Attributes of torch's classes that depend only on the sizes, or are for TorchScript.
HARMLESS = {"__constants__", "get_expected_cell_size"}


def both(kind: str, norm: str | None, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Return a layer of both families, and one of ours alone with the same weights."""
    layer = getattr(torch_rnn, kind)(I, H, dtype=F64, norm=norm, **options)
    alone = getattr(seqnorm, kind)(I, H, dtype=F64, norm=norm, **options)
    alone.load_state_dict(layer.state_dict())
    return layer, alone


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_of_both_and_computes_what_ours_does(kind: str, norm: str | None) -> None:
    layer, alone = both(kind, norm, num_layers=2, bidirectional=True)
    for cls in (nn.RNNBase, *LAYERS[kind]):
        assert isinstance(layer, cls)
    assert not isinstance(alone, nn.RNNBase)
    x = fresh(T, B, I, seed=1)
    for form in (x, pack_padded_sequence(x, [T, 2, 1])):
        for a, e in zip(tensors(layer(form)), tensors(alone(form))):
            assert_equal(a, e)
    for a, e in zip(tensors(layer(x, None, [1, T, 0])), tensors(alone(x, None, [1, T, 0]))):
        assert_equal(a, e)


@pytest.mark.parametrize("kind", LAYERS)
def test_torchs_class_adds_nothing_that_computes(kind: str) -> None:
    """Every method of torch's recurrent classes is replaced, so none keeps weights of its own."""
    theirs, cls = LAYERS[kind][0], getattr(torch_rnn, kind)
    names = {name for base in (theirs, nn.RNNBase) for name in vars(base)}
    owners = {name: next(base for base in cls.__mro__ if name in vars(base)) for name in names}
    left = {name for name, owner in owners.items() if owner in (theirs, nn.RNNBase)}
    assert left <= HARMLESS


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_copied_stored_moved_and_changed_as_any_module(norm: str | None) -> None:
    layer, _ = both("LSTM", norm)
    layer.eval()
    x = fresh(T, B, I, seed=1)
    expected = layer(x)[0]
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.float().double()):
        assert_close(twin(x)[0], expected, SINGLE)
    layer.weight_ih_l0 = nn.Parameter(torch.zeros_like(layer.weight_ih_l0))
    assert not torch.equal(layer(x)[0], expected), "a new weight is used"
    assert layer.to("meta").weight_hh_l0.is_meta


@pytest.mark.parametrize("norm", NORMS)
def test_a_subclass_of_a_subclass_of_torchs_becomes_ours(norm: str | None) -> None:
    """A subclass with a forward around torch's has the same forward around ours."""

    class Doubled(nn.LSTM):
        def forward(self, x: Tensor, hx: Any = None) -> Any:  # type: ignore[override]
            return super().forward(2.0 * x, hx=hx)

    class Mine(Doubled, torch_rnn.LSTM):
        pass

    reference = Doubled(I, H, dtype=F64).eval()
    layer = Mine.from_torch(reference, norm=norm)
    assert isinstance(layer, Doubled)
    x, hx = fresh(T, B, I, seed=1), as_hx([fresh(1, B, H, seed=2), fresh(1, B, H, seed=3)])
    alone = seqnorm.LSTM.from_torch(nn.LSTM(I, H, dtype=F64), norm=norm).eval()
    alone.load_state_dict(layer.state_dict())
    for a, e in zip(tensors(layer(x, hx)), tensors(alone(2.0 * x, hx))):
        assert_equal(a, e)
    if norm is None:
        assert_close(layer(x, hx)[0], reference(x, hx)[0], VALUES)


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_not_given_to_code_that_would_leave_out_the_norm(kind: str) -> None:
    plain, _ = both(kind, None)
    assert len(plain._flat_weights) == len(plain._flat_weights_names) == 4
    normalised, _ = both(kind, "layer")
    for name in ("_flat_weights", "_flat_weights_names", "_all_weights"):
        with pytest.raises(RuntimeError, match=rf"{name} .*this layer has norm, .*call the layer"):
            getattr(normalised, name)
    with pytest.raises(TypeError, match=rf"takes a torch\.nn\.{kind}, got seqnorm\.{kind}"):
        getattr(seqnorm, kind).from_torch(normalised)


def test_it_goes_back_to_torch() -> None:
    layer, _ = both("GRU", None)
    x = fresh(T, B, I, seed=1)
    back = layer.to_torch()
    assert type(back) is nn.GRU
    assert_close(back(x)[0], layer(x)[0], VALUES)
