"""PyTorch's own tests of its recurrent layers and cells (test/nn, test_nn.py), applied to ours.

They are rewritten with the classes and sizes of the originals. Features beyond torch's (T = 0) have
tests of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerances import SINGLE, assert_close, assert_equal
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import seqnorm

LAYERS = {"RNN": seqnorm.RNN, "GRU": seqnorm.GRU, "LSTM": seqnorm.LSTM}
CELLS = {"RNN": seqnorm.RNNCell, "GRU": seqnorm.GRUCell, "LSTM": seqnorm.LSTMCell}
NORMS = [None, "layer", "batch"]


def as_state(kind: str, *parts: Tensor) -> Any:
    return (parts[0], parts[-1]) if kind == "LSTM" else parts[0]


def tensors(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for part in result for t in tensors(part)]


# Input (T, B, I) and state (L, B, H) with one wrong size each.
GOOD = (6, 4, 3), (2, 4, 5)
BAD = {
    "input batch": ((6, 7, 3), (2, 4, 5)),
    "hidden batch": ((6, 4, 3), (2, 7, 5)),
    "input size": ((6, 4, 7), (2, 4, 5)),
    "hidden size": ((6, 4, 3), (2, 4, 7)),
    "hidden layers": ((6, 4, 3), (7, 4, 5)),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", LAYERS)
def test_args_check(kind: str, case: str, norm: str | None) -> None:
    shape, hidden_shape = BAD[case]
    good, hidden = torch.randn(GOOD[1]), torch.randn(hidden_shape)
    layer = LAYERS[kind](3, 5, 2, norm=norm)
    pairs = [(good, hidden), (hidden, good)] if kind == "LSTM" else [(hidden,)]
    for parts in pairs:
        if case == "input batch" or hidden_shape != GOOD[1]:
            with pytest.raises(RuntimeError):
                layer(torch.randn(shape), as_state(kind, *parts))
    if case == "input size":
        with pytest.raises(RuntimeError, match=r"input\.size\(-1\) must be equal to input_size"):
            layer(torch.randn(shape), as_state(kind, good))


@pytest.mark.parametrize("case", [*BAD, "cell size"])
def test_projections_args_check(case: str) -> None:
    layer = seqnorm.LSTM(3, 5, 2, proj_size=2)
    shapes = {"input": (6, 4, 3), "h": (2, 4, 2), "c": (2, 4, 5)}
    of, axis = {
        "input batch": ("input", 1),
        "hidden batch": ("h", 1),
        "input size": ("input", 2),
        "hidden size": ("h", 2),
        "hidden layers": ("h", 0),
        "cell size": ("c", 2),
    }[case]
    wrong = list(shapes[of])
    wrong[axis] = 7
    given = shapes | {of: tuple(wrong)}
    with pytest.raises(RuntimeError):
        layer(torch.randn(given["input"]), (torch.randn(given["h"]), torch.randn(given["c"])))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("proj_size", [0, 10])
@pytest.mark.parametrize("kind", LAYERS)
def test_initial_hidden_state(kind: str, proj_size: int) -> None:
    if proj_size and kind != "LSTM":
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM, not"):
            LAYERS[kind](30, 20, 2, proj_size=proj_size)
        return
    layer = LAYERS[kind](30, 20, 2, **({"proj_size": proj_size} if proj_size else {}))
    x = torch.randn(10, 32, 30)
    zeros = as_state(kind, torch.zeros(2, 32, proj_size or 20), torch.zeros(2, 32, 20))
    for a, e in zip(tensors(layer(x)), tensors(layer(x, zeros))):
        assert_equal(a, e)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_retain_variables(kind: str, norm: str | None) -> None:
    layer = LAYERS[kind](10, 20, num_layers=2, norm=norm)
    x = torch.randn(5, 6, 10, requires_grad=True)
    output = layer(x)[0]
    found = []
    for _ in range(5):
        layer.zero_grad()
        x.grad = None
        output.sum().backward(retain_graph=True)
        found.append([x.grad, *(parameter.grad for parameter in layer.parameters())])
    for again in found[1:]:
        for a, e in zip(again, found[0]):
            assert_equal(a, e)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_empty_batch(kind: str, norm: str | None) -> None:
    """In PyTorch it is test_RNN_input_size_zero."""
    layer = LAYERS[kind](3, 4, norm=norm)
    output = layer(torch.zeros(5, 0, 3))[0]
    assert output.shape == (5, 0, 4)
    output.sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any()


@pytest.mark.parametrize("p", [0.0, 0.276, 0.731345, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout(p: float, training: bool) -> None:
    """With weights and inputs of one, a share 1 - p of 1000 units of the first layer is kept."""
    layer = seqnorm.RNN(10, 1000, 2, bias=False, dropout=p, nonlinearity="relu")
    with torch.no_grad():
        for name, fill in (("ih_l0", 1.0), ("hh_l0", 1.0), ("ih_l1", 1.0), ("hh_l1", 1.0)):
            getattr(layer, f"weight_{name}").fill_(fill)
    output, hidden = layer.train(training)(torch.ones(1, 1, 10), torch.zeros(2, 1, 1000))
    assert float(output.detach().min()) == float(output.detach().max())
    assert bool((hidden[0] == 10).all()), "the state of the first layer sees no dropout"
    value = float(output.detach()[0, 0, 0])
    if p == 1 and training:
        assert value == 0
    elif p == 0 or not training:
        assert value == 10 * 1000
    else:
        kept = value * (1 - p) / 10
        assert abs(kept - round(kept)) < 1e-2, "each is scaled by 1 / (1 - p)"
        assert abs(kept / 1000 - (1 - p)) < 0.1


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_drawn_anew_and_repeats_by_its_seed(training: bool) -> None:
    layer = seqnorm.RNN(100, 100, 2, bias=False, dropout=0.5, nonlinearity="relu").train(training)
    x, hx = torch.rand(1, 1, 100), torch.rand(2, 1, 100)
    state = torch.get_rng_state()
    first = layer(x, hx)
    second = layer(x, hx)
    torch.set_rng_state(state)
    again = layer(x, hx)
    assert torch.equal(first[0], second[0]) != training
    for a, e in zip(again, first):
        assert_equal(a, e)


def test_dropout_may_be_changed_afterwards() -> None:
    layer = seqnorm.RNN(10, 100, 2, dropout=0.0, nonlinearity="relu")
    x, hx = torch.rand(3, 2, 10), torch.rand(2, 2, 100)
    same, changed = layer(x, hx)[0], []
    for p in (0.0, 0.5, 0.0, 0.2, 0.5, 0.0):
        layer.dropout = p
        changed.append(torch.equal(layer(x, hx)[0], same))
    assert changed == [True, False, True, False, False, True]


@pytest.mark.parametrize("kind", CELLS)
def test_cells_in_a_loop(kind: str) -> None:
    x = torch.randn(3, 10)
    for bias in (True, False):
        cell = CELLS[kind](10, 20, bias=bias)
        state = as_state(kind, torch.randn(3, 20), torch.randn(3, 20))
        for _ in range(6):
            state = cell(x, state)
        sum(tensors(state)).sum().backward()  # type: ignore[union-attr]
        assert all(parameter.grad is not None for parameter in cell.parameters())


# An input and a state that do not fit a cell (10, 20).
NO_BROADCASTING = {
    "hidden batch": ((3, 10), (1, 20)),
    "input batch": ((1, 10), (3, 20)),
    "input size": ((3, 1), (3, 20)),
    "hidden size": ((3, 10), (3, 1)),
    "hidden of 21": ((3, 10), (3, 21)),
    "input of 11": ((3, 11), (3, 20)),
}


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("case", NO_BROADCASTING)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_broadcast_nothing(kind: str, case: str, norm: str | None) -> None:
    shape, hidden = NO_BROADCASTING[case]
    good, bad = torch.randn(shape[0], 20), torch.randn(hidden)
    for parts in ((good, bad), (bad, good)) if kind == "LSTM" else ((bad,),):
        with pytest.raises(RuntimeError):
            CELLS[kind](10, 20, norm=norm)(torch.randn(shape), as_state(kind, *parts))


@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_no_units(kind: str) -> None:
    state = as_state(kind, torch.randn(3, 0))
    assert tensors(CELLS[kind](10, 0)(torch.randn(3, 10), state))[0].shape == (3, 0)


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_and_theirs(kind: str, norm: str | None) -> None:
    layer = LAYERS[kind](5, 4, 2, dtype=torch.float64, norm=norm)
    x = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]
    values = tuple(parameter.detach().requires_grad_() for parameter in layer.parameters())

    def call(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors(torch.func.functional_call(layer, dict(zip(names, weights)), (x,))))

    assert gradcheck(call, (x, *values), fast_mode=True)
    with seqnorm.use_backend("reference"):
        assert gradgradcheck(call, (x, *values), fast_mode=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_gradients_of_single_precision(kind: str) -> None:
    """oneDNN's LSTM has none of them; PyTorch's test checks that they exist anyway."""
    layer = LAYERS[kind](5, 4)
    x = torch.randn(3, 2, 5, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    first.square().sum().backward()
    twin = LAYERS[kind](5, 4, dtype=torch.float64)
    twin.load_state_dict(layer.state_dict())
    wide = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(twin(wide)[0].square().sum(), wide, create_graph=True)
    expected.square().sum().backward()
    assert_close(x.grad.double(), wide.grad, SINGLE)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_sequences_of_their_own_length(kind: str, bidirectional: bool) -> None:
    """Packed sequences have the same results as single ones."""
    layer = LAYERS[kind](5, 6, 2, bidirectional=bidirectional, dtype=torch.float64)
    lengths = [7, 5, 5, 2, 1, 1]
    sequences = [torch.randn(length, 5, dtype=torch.float64) for length in lengths]
    packed, final = layer(nn.utils.rnn.pack_sequence(sequences))
    padded, found = nn.utils.rnn.pad_packed_sequence(packed)
    assert found.tolist() == lengths
    for b, sequence in enumerate(sequences):
        output, state = layer(sequence)
        assert_close(padded[: len(sequence), b], output, 1e-12)
        for a, e in zip(tensors(final), tensors(state)):
            assert_close(a[:, b], e, 1e-12)
