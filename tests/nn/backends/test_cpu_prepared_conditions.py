"""Prepared calls see every change of a layer, and are left where a call needs more than they do."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import F64, SINGLE_VALUES, needs_kernels
from prepared_calls import assert_same, by_definition, results, trained
from tolerances import VALUES
from torch import Tensor, nn

import seqnorm
from seqnorm.nn import backends

pytestmark = needs_kernels


def _step(layer: Any) -> None:
    optimiser = torch.optim.SGD(layer.parameters(), 0.5)
    layer(torch.randn(2, 2, 4, dtype=F64))[0].sum().backward()
    optimiser.step()


def _exchange(layer: Any) -> None:
    layer.weight_hh_l0 = nn.Parameter(torch.randn_like(layer.weight_hh_l0))


def _point_elsewhere(layer: Any) -> None:
    layer.norm_hh_l0.weight.data = torch.randn_like(layer.norm_hh_l0.weight)


def _multiply(layer: Any) -> None:
    layer.weight_ih_l0.data.mul_(1.5)


def _point_at_columns(layer: Any) -> None:
    layer.weight_ih_l0.data = torch.randn(4, 24, dtype=F64).t()


def _load(layer: Any) -> None:
    layer.load_state_dict({key: 0.5 * t for key, t in layer.state_dict().items()})


def _by_numpy(layer: Any) -> None:
    layer.bias_ih_l0.detach().numpy()[:] = 0.25


def _parametrise(layer: Any) -> None:
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    layer.parametrizations.weight_hh_l0.original0.data.uniform_()


def _vector(layer: Any) -> None:
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(-vector, layer.parameters())


CHANGES: list[Callable[[Any], None]] = [
    *(_step, _exchange, _point_elsewhere, _point_at_columns, _multiply, _load),
    *(_by_numpy, _parametrise, _vector),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_change_of_the_parameters_is_seen(
    change: Callable[[Any], None], calls: list[int]
) -> None:
    torch.manual_seed(5)
    layer = trained("LSTM", "layer", 4, 6)
    x = torch.randn(3, 2, 4, dtype=F64)
    before = results(layer, x)
    assert calls
    change(layer)
    found = results(layer, x)
    assert_same(found, by_definition(layer, x), VALUES)
    assert not torch.allclose(found[0], before[0])


def test_a_square_matrix_that_is_transposed_in_place() -> None:
    torch.manual_seed(5)
    layer = trained("LSTM", "layer", 24, 6)  # W_ih (24, 24)
    x = torch.randn(3, 2, 24, dtype=F64)
    before = results(layer, x)
    layer.weight_ih_l0.data = layer.weight_ih_l0.data.t()
    found = results(layer, x)
    assert_same(found, by_definition(layer, x), VALUES)
    assert not torch.allclose(found[0], before[0])


def test_a_change_of_the_tables_is_seen() -> None:
    torch.manual_seed(6)
    layer = trained("GRU", "batch", 4, 6)
    x = torch.randn(3, 2, 4, dtype=F64)
    table = layer.norm_ih_l0.table
    with torch.no_grad():
        table.running_mean[:3].add_(1.0)
        assert_same(results(layer, x), by_definition(layer, x), VALUES)
        table.running_var = table.running_var * (1 + (table.count > 0)[:, None])
        assert_same(results(layer, x), by_definition(layer, x), VALUES)
        table.count[1:] = 0
        with pytest.warns(UserWarning, match="count of 0"):
            found = results(layer, x)
        assert_same(found, by_definition(layer, x), VALUES)
        assert_same(results(layer, x), by_definition(layer, x), VALUES)


def test_of_one_dtype_after_another(calls: list[int]) -> None:
    torch.manual_seed(7)
    layer = trained("GRU", "layer", 4, 6)
    x = torch.randn(3, 2, 4, dtype=F64)
    calls.clear()
    expected = results(layer, x)
    assert_same(results(layer.float(), x.float()), expected, SINGLE_VALUES)
    assert_same(results(layer.double(), x), expected, SINGLE_VALUES)
    assert len(calls) == 3


def test_copies_are_apart() -> None:
    torch.manual_seed(8)
    layer = trained("LSTM", "layer", 4, 6)
    cell = seqnorm.LSTMCell(4, 6, norm="layer", dtype=F64)
    x = torch.randn(1, 2, 4, dtype=F64)
    for module, given in ((layer, x), (cell, x[0])):
        expected = results(module, given)
        for other in (copy.deepcopy(module), copy.copy(module), pickle.loads(pickle.dumps(module))):
            assert_same(results(other, given), expected, 0.0)
        changed = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.zero_()
        assert float(results(changed, given)[0].abs().max()) == 0.0
        assert_same(results(module, given), expected, 0.0)


class _Sub(Tensor):
    pass


def _layer(**options: Any) -> Any:
    return seqnorm.LSTM(4, 6, norm="layer", **options).eval()


X, HX = torch.randn(3, 2, 4), (torch.zeros(1, 2, 6),) * 2


def _none(layer: Any) -> Any:
    return layer(X)


def _recorded(layer: Any) -> Any:
    with torch.enable_grad():
        return layer(X)


def _pinned(layer: Any) -> Any:
    with seqnorm.use_backend("reference"):
        return layer(X)


def _first_another(layer: Any) -> Any:
    before = backends.BACKENDS
    backends.BACKENDS = {"mine": before["reference"], **before}
    try:
        return layer(X)
    finally:
        backends.BACKENDS = before


def _autocast(layer: Any) -> Any:
    with torch.autocast("cpu", torch.float16):
        return layer(X)


def _vmap(layer: Any) -> Any:
    return torch.func.vmap(lambda x: layer(x[:, None])[0], in_dims=1)(X)


def _forward_mode(layer: Any) -> Any:
    with warnings.catch_warnings(), torch.autograd.forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own use of its scripts
        return layer(torch.autograd.forward_ad.make_dual(X, X))


def _dispatched(layer: Any) -> Any:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        return layer(X)


def _traced(layer: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of fixed sizes
        return torch.jit.trace(layer, X, check_trace=False)


def _in_chunks() -> Any:
    layer = _layer()
    seqnorm.compute_in_chunks(layer, 2)
    return layer


LEAVES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "gradients": (_recorded, _layer),
    "another backend": (_pinned, _layer),
    "a backend of a user": (_first_another, _layer),
    "autocast in float16": (_autocast, _layer),
    "vmap": (_vmap, _layer),
    "forward mode": (_forward_mode, _layer),
    "counted": (_dispatched, _layer),
    "traced": (_traced, _layer),
    "lengths": (lambda layer: layer(X, lengths=[3, 2]), _layer),
    "packed": (lambda layer: layer(nn.utils.rnn.pack_sequence([X[:, 0]])), _layer),
    "a subclass": (lambda layer: layer(X.as_subclass(_Sub)), _layer),
    "a negated view": (lambda layer: layer(torch.complex(X, X).conj().imag), _layer),
    "two directions": (_none, lambda: _layer(bidirectional=True)),
    "no norm": (_none, lambda: seqnorm.LSTM(4, 6).eval()),
    "no norm, ReLU": (_none, lambda: seqnorm.RNN(4, 6, nonlinearity="relu").eval()),
    "dropout in training": (_none, lambda: _layer(num_layers=2, dropout=0.5).train()),
    "zoneout in training": (_none, lambda: _layer(zoneout=0.5).train()),
    "recurrent dropout": (_none, lambda: _layer(recurrent_dropout=0.5).train()),
    "statistics in training": (_none, lambda: seqnorm.LSTM(4, 6, norm="batch")),
    "no steps": (lambda layer: layer(X[:0]), _layer),
    "no sequences": (lambda layer: layer(X[:, :0]), _layer),
    "another step": (_none, lambda: seqnorm.SLSTM(4, 8, norm="layer").eval()),
    "chunks": (_none, _in_chunks),
    "half precision": (lambda layer: layer(X.bfloat16()), lambda: _layer().bfloat16()),
}


@pytest.mark.parametrize("reason", LEAVES)
def test_a_call_that_needs_more(reason: str, calls: list[int]) -> None:
    call, make = LEAVES[reason]
    layer = make()
    with torch.no_grad():
        call(layer)
    assert calls == []
    plain = _layer()
    results(plain, X)
    assert calls == [3]


def test_the_environment_asks_for_another_backend(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = _layer()
    monkeypatch.setenv("SEQNORM_BACKEND", "reference")
    found = results(layer, X)
    assert calls == []
    monkeypatch.setenv("SEQNORM_BACKEND", "cpu")
    assert_same(results(layer, X), found, SINGLE_VALUES)
    monkeypatch.delenv("SEQNORM_BACKEND")
    results(layer, X)
    assert calls == [3, 3]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((torch.randn(3, 2, 5),), RuntimeError),
        ((torch.randn(3, 2, 4, 1),), ValueError),
        ((X.double(),), ValueError),
        ((X, (HX[0],)), ValueError),
        ((X, (HX[0], HX[1][:, :1])), RuntimeError),
        ((X, (HX[0], HX[1].double())), RuntimeError),
        ((X, (HX[0][0], HX[1][0])), RuntimeError),
        ((X, HX, None, -1), TypeError),
    ],
)
def test_errors_are_those_of_the_usual_way(given: Any, error: type[Exception]) -> None:
    layer = _layer()
    results(layer, X)
    with pytest.raises(error) as short, torch.no_grad():
        layer(*given)
    with pytest.raises(error) as usual, torch.enable_grad():
        layer(*given)
    assert str(short.value) == str(usual.value)
