"""``convert_rnn`` against the same model built by hand, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn

import seqnorm

T, B, I, H = 5, 3, 4, 6  # noqa: E741  the axes' letters
F64 = torch.float64


class Tagger(nn.Module):
    """Layers and cells at several depths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, I)
        self.encoder = nn.ModuleDict(
            {
                "rnn": nn.LSTM(I, H, 2, batch_first=True, bidirectional=True, dropout=0.1),
                "top": nn.GRU(2 * H, H, bias=False, batch_first=True),
            }
        )
        self.cell = nn.RNNCell(H, H, nonlinearity="relu")

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.encoder["rnn"](self.embedding(tokens))
        x, _ = self.encoder["top"](x)
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        assert state is not None
        return state


def quiet(model: nn.Module, *args: Any, **options: Any) -> nn.Module:
    return seqnorm.convert_rnn(model, *args, say=None, **options)


def test_without_a_norm_nothing_changes() -> None:
    model = Tagger().to(F64).eval()
    tokens = torch.randint(10, (B, T))
    converted = quiet(model, None)
    assert_close(converted(tokens), model(tokens), VALUES)
    assert type(model.encoder["rnn"]) is nn.LSTM, "the model itself is left alone"
    assert type(converted.encoder["rnn"]) is seqnorm.LSTM
    assert type(converted.encoder["top"]) is seqnorm.GRU
    assert type(converted.cell) is seqnorm.RNNCell
    assert converted.cell.nonlinearity == "relu"
    assert not converted.training
    assert not converted.encoder["rnn"].training


def test_with_a_norm_it_is_from_torch() -> None:
    model = Tagger()
    converted = quiet(model, "rms")
    for path, cls in (("encoder.rnn", seqnorm.LSTM), ("encoder.top", seqnorm.GRU)):
        by_hand = cls.from_torch(model.get_submodule(path), norm="rms")
        found = converted.get_submodule(path)
        assert repr(found) == repr(by_hand)
        for key, value in by_hand.state_dict().items():
            assert torch.equal(found.state_dict()[key], value), key
    out = converted(torch.randint(10, (B, T)))
    out.sum().backward()
    assert converted.encoder["rnn"].weight_hh_l1.grad is not None


@pytest.mark.parametrize("norm", [None, "layer"])
def test_initial_states_are_learned(norm: str | None) -> None:
    model, tokens = Tagger().to(F64).eval(), torch.randint(10, (B, T))
    zeros = quiet(model, norm)
    learned = quiet(model, norm, learn_initial_state=True)
    assert_close(learned(tokens), zeros(tokens), VALUES)  # they begin with zeros
    rnn, top, cell = learned.encoder["rnn"], learned.encoder["top"], learned.cell
    with torch.no_grad():
        for parameter in (rnn.h_0, rnn.c_0, top.h_0, cell.h_0):
            parameter.copy_(torch.randn_like(parameter))
    learned(tokens).square().sum().backward()
    found = [parameter.grad for parameter in (rnn.h_0, rnn.c_0, top.h_0, cell.h_0)]
    assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in found)

    # The same states as arguments of layers without learned ones, and their gradients.
    states = [nn.Parameter(p.detach().clone()) for p in (rnn.h_0, rnn.c_0, top.h_0, cell.h_0)]
    h, c, above, last = (state.unsqueeze(-2).expand(*state.shape[:-1], B, H) for state in states)
    x, _ = zeros.encoder["rnn"](zeros.embedding(tokens), (h, c))
    x, _ = zeros.encoder["top"](x, above)
    state = last
    for t in range(T):
        state = zeros.cell(x[:, t], state)
    assert_close(learned(tokens), state, VALUES)
    state.square().sum().backward()
    for grad, expected in zip(found, states):
        assert_close(grad, expected.grad, GRADIENTS)


def test_a_wrong_flag_is_refused() -> None:
    with pytest.raises(TypeError, match="learn_initial_state should be of type bool, got: str"):
        quiet(Tagger(), learn_initial_state="yes")


def test_the_changes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    seqnorm.convert_rnn(Tagger(), "layer", exclude="cell")
    assert capsys.readouterr().out.splitlines() == [
        "encoder.rnn: LSTM(4, 6, num_layers=2, batch_first=True, dropout=0.1, bidirectional=True) "
        "-> seqnorm.LSTM(4, 6, num_layers=2, batch_first=True, dropout=0.1, bidirectional=True, "
        "norm='layer')",
        "encoder.top: GRU(12, 6, bias=False, batch_first=True) "
        "-> seqnorm.GRU(12, 6, bias=False, batch_first=True, norm='layer')",
    ]


def test_include_and_exclude() -> None:
    kinds = {
        path: type(module).__module__.split(".")[0]
        for path, module in quiet(Tagger(), include=["encoder"], exclude="*.top").named_modules()
        if path in ("encoder.rnn", "encoder.top", "cell")
    }
    assert kinds == {"encoder.rnn": "seqnorm", "encoder.top": "torch", "cell": "torch"}
    with pytest.raises(ValueError, match=r"include='encoder.rn' matches no layer .*'encoder.rnn'"):
        quiet(Tagger(), include="encoder.rn")
    with pytest.raises(ValueError, match="together leave no layer"):
        quiet(Tagger(), include="cell", exclude="cell")


def test_in_place_and_a_layer_by_itself() -> None:
    model = Tagger()
    assert quiet(model, inplace=True) is model
    assert type(model.cell) is seqnorm.RNNCell
    alone = quiet(nn.GRU(I, H))
    assert type(alone) is seqnorm.GRU
    with pytest.raises(ValueError, match="the model is itself a recurrent layer"):
        quiet(nn.GRU(I, H), inplace=True)


def test_a_shared_layer_stays_shared_and_frozen_weights_frozen() -> None:
    layer = nn.GRU(I, I)
    layer.weight_hh_l0.requires_grad_(False)
    model = nn.ModuleList([layer, layer])
    for inplace in (False, True):
        found = quiet(copy.deepcopy(model), inplace=inplace)
        assert found[0] is found[1]
        assert not found[0].weight_hh_l0.requires_grad
        assert found[0].weight_ih_l0.requires_grad


def test_what_would_be_lost_is_refused() -> None:
    hooked = Tagger()
    hooked.cell.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"cell \(RNNCell\) has hooks.*exclude=\"cell\""):
        quiet(hooked)
    quiet(hooked, exclude="cell")

    class Own(nn.LSTM):
        pass

    with pytest.raises(ValueError, match="0 is a Own, whose own methods would be lost"):
        quiet(nn.Sequential(Own(I, H)))
    normed = nn.utils.parametrizations.weight_norm(nn.GRU(I, H), "weight_hh_l0")
    with pytest.raises(ValueError, match="which is parametrised: remove the parametrisation"):
        quiet(nn.Sequential(normed))
    pair = nn.ModuleList([nn.RNN(H, H), nn.RNN(H, H)])
    pair[1].weight_hh_l0 = pair[0].weight_hh_l0
    with pytest.raises(ValueError, match=r"1\.weight_hh_l0 is a parameter of 0 too"):
        quiet(pair)
    tied = nn.ModuleList([nn.RNN(H, H), nn.Linear(H, H)])
    tied[1].weight = tied[0].weight_hh_l0
    with pytest.raises(ValueError, match=r"1\.weight is a parameter of 0 too"):
        quiet(tied)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="Linear has no recurrent layer to replace"):
        quiet(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"cell \(RNNCell\): norm 'haste' is published for"):
        quiet(Tagger(), "haste")
    with pytest.raises(TypeError, match="convert_rnn takes a model"):
        quiet("model")  # type: ignore[arg-type]  # the mistake
    already = quiet(nn.Sequential(nn.LSTM(I, H)))
    with pytest.raises(ValueError, match="no recurrent layer to replace"):
        quiet(already)
