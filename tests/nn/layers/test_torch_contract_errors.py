"""Layers and cells without a norm warn and raise as torch's do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_torch import CELLS, F64, LAYERS, B, H, I, T
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch_versions import TORCH

import seqnorm


@pytest.mark.parametrize("kind", seqnorm.nn.layers.cells.LAYERS)
def test_dropout_on_one_layer_warns(kind: str) -> None:
    ours = (seqnorm.nn.layers.cells.LAYERS[kind],)
    for cls in LAYERS.get(kind, ours):
        with pytest.warns(UserWarning, match=r"num_layers.*dropout=0\.5") as caught:
            cls(I, 4, dropout=0.5)
        assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the line that built the layer"


X = torch.zeros(T, B, I)
H0 = torch.zeros(1, B, H)
PACKED = pack_padded_sequence(X, [4, 3, 1])
WRONG: dict[str, Callable[[Any, Callable[..., Any]], object]] = {
    "input_size float": lambda cls, hx: cls(3.0, H),
    "input_size zero": lambda cls, hx: cls(0, H),
    "input_size negative": lambda cls, hx: cls(-1, H),
    "hidden_size float": lambda cls, hx: cls(I, 5.0),
    "hidden_size str": lambda cls, hx: cls(I, "5"),
    "hidden_size zero": lambda cls, hx: cls(I, 0),
    "num_layers zero": lambda cls, hx: cls(I, H, 0),
    "num_layers float": lambda cls, hx: cls(I, H, 2.0),
    "bias int": lambda cls, hx: cls(I, H, bias=1),
    "batch_first int": lambda cls, hx: cls(I, H, batch_first=1),
    "dropout large": lambda cls, hx: cls(I, H, 2, dropout=1.5),
    "dropout negative": lambda cls, hx: cls(I, H, 2, dropout=-0.1),
    "dropout bool": lambda cls, hx: cls(I, H, 2, dropout=True),
    "dropout str": lambda cls, hx: cls(I, H, 2, dropout="much"),
    "unknown option": lambda cls, hx: cls(I, H, peepholes=True),
    "input 1-D": lambda cls, hx: cls(I, H)(X[0, 0]),
    "input 4-D": lambda cls, hx: cls(I, H)(X[None]),
    "input double": lambda cls, hx: cls(I, H)(X.double()),
    "input int": lambda cls, hx: cls(I, H)(X.long()),
    "input wide": lambda cls, hx: cls(I + 1, H)(X),
    "packed wide": lambda cls, hx: cls(I + 1, H)(PACKED),
    "hx 2-D": lambda cls, hx: cls(I, H)(X, hx(H0[:, 0])),
    "hx 3-D unbatched": lambda cls, hx: cls(I, H)(X[:, 0], hx(H0)),
    "hx other batch": lambda cls, hx: cls(I, H)(X, hx(H0[:, :2])),
    "hx other layers": lambda cls, hx: cls(I, H, 2)(X, hx(H0)),
    "hx other size": lambda cls, hx: cls(I, H)(X, hx(H0[..., :4])),
    "hx double": lambda cls, hx: cls(I, H)(X, hx(H0.double())),
    "hx packed other batch": lambda cls, hx: cls(I, H)(PACKED, hx(H0[:, :2])),
    "hx batch_first": lambda cls, hx: cls(I, H, batch_first=True)(X, hx(H0)),
}


# Calls that torch refuses since 2.11, and its errors; older versions accept them or fail elsewhere.
SINCE_2_11 = {
    "input_size zero": ValueError,
    "input_size negative": ValueError,
    "bias int": TypeError,
    "batch_first int": TypeError,
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_arguments_raise_what_torch_raises(kind: str, case: str) -> None:
    def hx(part: Tensor) -> Any:
        return (part, part) if kind == "LSTM" else part

    def raised(cls: Any) -> type[BaseException]:
        with pytest.raises(Exception) as error:  # noqa: PT011  the types are compared below
            WRONG[case](cls, hx)
        return error.type

    theirs, ours = LAYERS[kind]
    found = raised(ours)
    if case in SINCE_2_11:
        assert found is SINCE_2_11[case]
    if case not in SINCE_2_11 or TORCH >= (2, 11):
        expected = raised(theirs)
        assert found is expected, f"torch raises {expected}, seqnorm {found}"


WRONG_CELL: dict[str, Callable[[Any, Callable[..., Any]], object]] = {
    "hidden_size float": lambda cls, hx: cls(I, 5.0),
    "input 0-D": lambda cls, hx: cls(I, H)(X[0, 0, 0]),
    "input 3-D": lambda cls, hx: cls(I, H)(X),
    "input wide": lambda cls, hx: cls(I + 1, H)(X[0]),
    "input wide unbatched": lambda cls, hx: cls(I + 1, H)(X[0, 0]),
    "input double": lambda cls, hx: cls(I, H)(X[0].double()),
    "hx 3-D": lambda cls, hx: cls(I, H)(X[0], hx(H0)),
    "hx 1-D for a batch": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, 0])),
    "hx 2-D unbatched": lambda cls, hx: cls(I, H)(X[0, 0], hx(H0[0])),
    "hx (1, H) unbatched": lambda cls, hx: cls(I, H)(X[0, 0], hx(H0[0, :1])),
    "hx other batch": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, :2])),
    "hx other size": lambda cls, hx: cls(I, H)(X[0], hx(H0[0, :, :4])),
}


@pytest.mark.parametrize("case", WRONG_CELL)
@pytest.mark.parametrize("kind", CELLS)
def test_wrong_cell_arguments_raise_what_torch_raises(kind: str, case: str) -> None:
    def hx(part: Tensor) -> Any:
        return (part, part) if kind == "LSTMCell" else part

    raised = []
    for cls in CELLS[kind]:
        with pytest.raises(Exception) as error:  # noqa: PT011  the types are compared below
            WRONG_CELL[case](cls, hx)
        raised.append(error.type)
    assert raised[1] is raised[0], f"torch raises {raised[0]}, seqnorm {raised[1]}"


@pytest.mark.parametrize("kind", LAYERS)
def test_packed_input_of_another_dtype(kind: str) -> None:
    """torch's LSTM checks a packed input only with hx; ours checks every form."""
    with pytest.raises(ValueError, match=r"RNN input dtype .*float32.* does not match weight"):
        LAYERS[kind][1](I, H, dtype=F64)(PACKED)


def test_projection_sizes_raise_what_torch_raises() -> None:
    for size in (-1, H, H + 1):
        for cls in (nn.LSTM, seqnorm.LSTM):
            with pytest.raises(ValueError, match="proj_size"):
                cls(I, H, proj_size=size)
    says = r"^proj_size argument is only supported for LSTM, not RNN or GRU"
    for size in (0, 2, H):
        for cls in (*LAYERS["GRU"], *LAYERS["RNN"]):
            with pytest.raises(ValueError, match=f"{says}$"):
                cls(I, H, proj_size=size)
        for cls in (seqnorm.LiGRU, seqnorm.IndRNN, seqnorm.SLSTM):
            with pytest.raises(ValueError, match=f"{says}, nor {cls.__name__}$"):
                cls(I, 8, proj_size=size)
    for cls in (*CELLS["LSTMCell"], *CELLS["GRUCell"]):
        with pytest.raises(TypeError, match="proj_size"):
            cls(I, H, proj_size=2)


@pytest.mark.parametrize("name", ["sigmoid", "", "ReLU", None])
def test_a_nonlinearity_that_is_none_raises_what_torch_raises(name: Any) -> None:
    said = []
    for cls in LAYERS["RNN"]:
        with pytest.raises(ValueError, match="Select from 'tanh' or 'relu'") as error:
            cls(I, H, nonlinearity=name)
        said.append(str(error.value))
    if name:
        assert said[1] == said[0]
    # torch's cell raises at its first call.
    with pytest.raises(ValueError, match="Select from 'tanh' or 'relu'"):
        seqnorm.RNNCell(I, H, nonlinearity=name)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_have_no_nonlinearity_to_choose(kind: str) -> None:
    for cls in (*LAYERS[kind], *CELLS[f"{kind}Cell"]):
        with pytest.raises(TypeError, match="nonlinearity"):
            cls(I, H, nonlinearity="relu")


def test_no_warning_in_ordinary_use() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, ours in LAYERS.values():
            ours(I, H, 2, dropout=0.5)(X)
            ours(I, H, norm="batch")(X)
