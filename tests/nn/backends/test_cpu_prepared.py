"""Prepared calls of the kernels: equal to the definition, and taken only where they are.

Axes: T steps, B sequences, I = input size, H = hidden size, L layers.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    SINGLE_VALUES,
    build,
    each_variant,
    needs_kernels,
    single,
    taken,
)
from hidden_states import as_hx, output_normed, parts_of
from tolerances import VALUES, assert_close
from torch import Tensor, nn

import seqnorm
from seqnorm.nn import backends
from seqnorm.nn.backends.cpu import kernels, library
from seqnorm.nn.backends.cpu.plan import inference_plan
from seqnorm.nn.backends.cpu.prepared import can_prepare
from seqnorm.nn.layers.cells import LAYERS

pytestmark = needs_kernels
NAMES = taken()
PREPARED = {
    name: pair
    for name, pair in NAMES.items()
    if can_prepare(LAYERS[pair[0]](3, 8, norm=pair[1]).directions())
}


# An sLSTM's norm "layer" is one of its output, which stands outside of the recurrence.
OF_ROWS = {"SLSTM": seqnorm.NormScheme(input=seqnorm.Norm("layer"), hidden=seqnorm.Norm("layer"))}


def drawn_state(layer: Any, *shape: int) -> tuple[Tensor, ...]:
    """Return a random state; n of an sLSTM, a sum of exponentials, is positive."""
    letters = layer.step.states
    parts = [torch.randn(*shape).to(F64) for _ in letters]
    return tuple([p.abs() + 0.5 if k == "n" else p for k, p in zip(letters, parts)])


def results(layer: Any, *given: Any, **options: Any) -> tuple[Tensor, ...]:
    """Return the outputs and the final states of a layer, or the new state of a cell."""
    with torch.no_grad():
        found = layer(*given, **options)
    if isinstance(layer, nn.Module) and hasattr(layer, "num_layers"):
        return (found[0], *parts_of(found[1]))
    return parts_of(found)


def by_definition(layer: Any, *given: Any, **options: Any) -> tuple[Tensor, ...]:
    with seqnorm.use_backend("reference"):
        return results(layer, *given, **options)


def trained(cell: str, norm: Any, I: int, H: int, **options: Any) -> Any:  # noqa: E741
    """Return a float64 layer in evaluation mode, with statistics of some batches in its tables."""
    layer = build(cell, norm, I, H, **options)
    if any(True for _ in layer.buffers()):
        for T in (2, 5):
            results(layer, torch.randn(T, 8, I, dtype=F64))
        layer.load_state_dict(layer.float().double().state_dict())
    layer = layer.eval()
    results(layer, torch.zeros(1, 1, I, dtype=F64), first_step=0)  # looks at the tables
    return layer


def assert_same(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        assert value.shape == wanted.shape
        assert_close(value.to(F64), wanted.to(F64), tolerance, what)


def test_what_is_prepared() -> None:
    """All norms of the kernels but those outside of the recurrence.

    Layers without a norm are prepared if torch has no such layer.
    """
    for name, (cell, norm) in NAMES.items():
        (direction,) = LAYERS[cell](3, 8, norm=norm).directions()
        plain = norm is None and direction.step.fused is not None
        expected = not plain and not inference_plan(direction).outside
        assert (name in PREPARED) == expected, name
    assert len(PREPARED) > 30


@pytest.mark.parametrize("name", PREPARED)
def test_layers_equal_the_definition(
    name: str, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each variant, precision and number of layers, with and without a state, late steps too."""
    cell, norm = PREPARED[name]
    torch.manual_seed(0)
    for L, (width, H) in zip((1, 2, 3), ((3, 5), (17, 8), (7, 33))):
        layer = trained(cell, norm, width, H, num_layers=L)
        small = single(layer).eval()
        results(small, torch.zeros(1, 1, width))
        for T, B, first in ((1, 1, 0), (1, 3, 4), (7, 1, 0), (3, 9, 2)):
            x = torch.randn(T, B, width).to(F64)
            state = drawn_state(layer, L, B, H)
            for hx in (None, state):
                given = None if hx is None else as_hx(hx)
                expected = by_definition(layer, x, given, first_step=first)
                halved = None if hx is None else as_hx([part.to(F32) for part in hx])
                for variant in each_variant(monkeypatch):
                    calls.clear()
                    what = f"{name}, {variant}, {T} x {B}"
                    found = results(layer, x, given, first_step=first)
                    assert_same(found, expected, VALUES, what)
                    found = results(small, x.to(F32), halved, first_step=first)
                    assert_same(found, expected, 8 * SINGLE_VALUES, what)
                    assert calls == [T, T], what


@pytest.mark.parametrize("name", [name for name, (_, norm) in PREPARED.items()])
def test_cells_equal_the_definition(name: str, calls: list[int]) -> None:
    cell, norm = PREPARED[name]
    torch.manual_seed(1)
    for width, H in ((3, 5), (16, 33)):
        layer = trained(cell, norm, width, H)
        if output_normed(layer.norm):
            return
        heads = {"num_heads": layer.num_heads} if cell == "SLSTM" else {}
        one = getattr(seqnorm, cell + "Cell")(width, H, norm=norm, dtype=F64, **heads).eval()
        one.load_state_dict({key.replace("_l0", ""): t for key, t in layer.state_dict().items()})
        for B, hx_given, first in itertools.product((1, 4, None), (False, True), (0, 3)):
            shape = () if B is None else (B,)
            x = torch.randn(*shape, width).to(F64)
            state = drawn_state(layer, *shape, H)
            hx = as_hx(state) if hx_given else None
            expected = by_definition(one, x, hx, first_step=first)
            results(one, x, hx, first_step=first)  # looks at the tables
            calls.clear()
            assert_same(results(one, x, hx, first_step=first), expected, VALUES, name)
            assert calls == [1]


@pytest.mark.parametrize("cell", library.STEPS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_forms_of_the_input(cell: str, batch_first: bool, calls: list[int]) -> None:
    """Batched either way, unbatched, strided and expanded."""
    torch.manual_seed(2)
    layer = trained(cell, OF_ROWS.get(cell, "layer"), 4, 6, num_layers=2, batch_first=batch_first)
    for shape in ((5, 3, 4), (1, 3, 4), (5, 1, 4), (5, 4)):
        x = torch.randn(*shape, dtype=F64)
        for form in (x, torch.randn(*shape, 2, dtype=F64)[..., 0], x[:1].expand_as(x), x.flip(0)):
            calls.clear()
            found, expected = results(layer, form), by_definition(layer, form)
            assert_same(found, expected, VALUES, str(shape))
            assert len(calls) == 1
            state = as_hx(
                [part.transpose(0, -1).contiguous().transpose(0, -1) for part in found[1:]]
            )
            assert_same(results(layer, form, state), by_definition(layer, form, state), VALUES)


@pytest.mark.parametrize("cell", library.STEPS)
def test_zoneout_of_inference(cell: str, calls: list[int]) -> None:
    torch.manual_seed(3)
    layer = trained(cell, OF_ROWS.get(cell, "layer"), 4, 6, zoneout=0.3)
    x = torch.randn(5, 2, 4, dtype=F64)
    assert_same(results(layer, x), by_definition(layer, x), VALUES)
    assert calls
    layer.zoneout = 0.6
    assert_same(results(layer, x), by_definition(layer, x), VALUES)


def test_a_stream_equals_the_whole_sequence(calls: list[int]) -> None:
    torch.manual_seed(4)
    layer = trained("LSTM", "batch", 4, 6, num_layers=2)
    x = torch.randn(9, 3, 4, dtype=F64)
    whole = results(layer, x)
    state, outputs = None, []
    for t in range(9):
        output, *state_parts = results(layer, x[t : t + 1], state, first_step=t)
        state = as_hx(state_parts)
        outputs.append(output)
    assert_same((torch.cat(outputs), *parts_of(state)), whole, VALUES)
    assert calls == [9] + [1] * 9


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


def test_many_threads_of_python() -> None:
    torch.manual_seed(9)
    layer = trained("LSTM", "layer", 4, 40, num_layers=2)
    inputs = [torch.randn(1 + k % 3, 1 + k % 2, 4, dtype=F64) for k in range(8)]
    expected = [by_definition(layer, x) for x in inputs]
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                assert_same(results(layer, inputs[number]), expected[number], VALUES)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failed


def test_results_are_plain_tensors_of_their_mode() -> None:
    layer = seqnorm.LSTM(4, 6, norm="layer").eval()
    x, hx = torch.randn(1, 1, 4), (nn.Parameter(torch.zeros(1, 1, 6)),) * 2
    with torch.inference_mode():
        for part in results(layer, x, hx):
            assert part.is_inference()
    for part in results(layer, x, hx):
        assert type(part) is Tensor
        assert not part.requires_grad
        assert not part.is_inference()
    output, h, c = results(layer, x, hx)
    assert len({part.data_ptr() for part in (output, h, c)}) == 3


def test_poisoned_memory_is_not_read() -> None:
    """The new tensors hold NaN before they are written."""
    torch.use_deterministic_algorithms(True)
    try:
        for name in ("LSTM ba2016", "GRU batch"):
            layer = trained(*PREPARED[name], 5, 7, num_layers=2)
            for part in results(layer, torch.randn(3, 2, 5, dtype=F64)):
                assert bool(part.isfinite().all())
    finally:
        torch.use_deterministic_algorithms(False)


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


def test_several_threads_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, and units where rows are few."""
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    before = torch.get_num_threads()
    torch.manual_seed(10)
    layer = trained("LSTM", "layer", 33, 200, num_layers=2)
    try:
        for T, B in ((1, 1), (4, 1), (3, 20)):
            x = torch.randn(T, B, 33, dtype=F64)
            expected = by_definition(layer, x)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                assert_same(results(layer, x), expected, VALUES, f"{threads} threads")
    finally:
        torch.set_num_threads(before)
