"""Options that a user assigns to a layer or cell that was built before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import seqnorm

I, H = 3, 4  # noqa: E741  # the sizes of the equations
FIXED: dict[str, Any] = {
    "norm": seqnorm.preset("rms", "GRU"),
    "input_size": 5,
    "hidden_size": 5,
    "num_layers": 2,
    "proj_size": 2,
    "bias": False,
    "bidirectional": True,
}


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("option", FIXED)
def test_an_option_that_made_the_parameters_is_refused(option: str, norm: Any) -> None:
    layer = seqnorm.GRU(I, H, norm=norm)
    before = getattr(layer, option)
    with pytest.raises(AttributeError, match=rf"GRU: {option} cannot be changed.*build another"):
        setattr(layer, option, FIXED[option])
    assert getattr(layer, option) == before
    setattr(layer, option, before)


@pytest.mark.parametrize("option", ["norm", "input_size", "hidden_size", "bias"])
def test_of_a_cell_too(option: str) -> None:
    cell = seqnorm.LSTMCell(I, H, norm="layer")
    with pytest.raises(AttributeError, match=rf"LSTMCell: {option} cannot be changed"):
        setattr(cell, option, FIXED[option])


def test_a_module_is_no_norm_of_a_layer() -> None:
    layer: Any = seqnorm.LSTM(I, H, norm="layer")
    with pytest.raises(AttributeError, match="norm cannot be changed"):
        layer.norm = nn.LayerNorm(H)
    assert "norm" not in dict(layer.named_modules())


def test_the_options_of_a_step() -> None:
    with pytest.raises(AttributeError, match="RNN: nonlinearity cannot be changed"):
        seqnorm.RNN(I, H).nonlinearity = "relu"
    with pytest.raises(AttributeError, match="SLSTM: num_heads cannot be changed"):
        seqnorm.SLSTM(I, H, num_heads=2).num_heads = 4


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "LiGRU"])
def test_zoneout_is_what_the_constructor_makes_of_it(kind: str) -> None:
    torch.manual_seed(0)
    built: Any = getattr(seqnorm, kind)(I, H, norm="layer", zoneout=0.3).eval()
    later: Any = getattr(seqnorm, kind)(I, H, norm="layer").eval()
    later.load_state_dict(built.state_dict())
    x = torch.randn(5, 2, I)
    assert not torch.equal(later(x)[0], built(x)[0])
    later.zoneout = 0.3
    assert later.zoneout == built.zoneout
    assert torch.equal(later(x)[0], built(x)[0])
    later.zoneout = 0.1
    later.zoneout = built.zoneout
    assert later.zoneout == built.zoneout


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout", "zoneout"])
def test_a_probability_is_checked(option: str) -> None:
    layer: Any = seqnorm.LSTM(I, H, num_layers=2, norm="layer", zoneout=0.1)
    before = getattr(layer, option)
    with pytest.raises(ValueError, match=rf"{option} should be a number in range \[0, 1\].*1.5"):
        setattr(layer, option, 1.5)
    assert getattr(layer, option) == before


def test_batch_first_may_change() -> None:
    layer: Any = seqnorm.LSTM(I, H, norm="layer")
    x = torch.randn(5, 2, I)
    output, _ = layer(x)
    layer.batch_first = True
    assert torch.equal(layer(x.transpose(0, 1))[0], output.transpose(0, 1))
    with pytest.raises(TypeError, match="batch_first should be of type bool"):
        layer.batch_first = 1
