"""BatchNorm pooled over time in the kernels: one mean and one variance of all rows.

Axes: T steps, B sequences, N packed rows, I = input size, H = hidden size, G gates.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from beside_reference import (
    F32,
    F64,
    NONLINEAR,
    Call,
    Outcome,
    assert_same,
    assert_single,
    build,
    each_variant,
    leaves_of,
    needs_kernels,
    outcome,
    results_of,
)
from hidden_states import as_hx
from tolerances import GRADIENTS, SUMS, VALUES, assert_close, assert_equal

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.backends.cpu.call import Call as KernelCall
from seqnorm.nn.backends.cpu.call import Inputs
from seqnorm.nn.backends.cpu.operators import recurrence
from seqnorm.nn.backends.cpu.plan import inference_plan, plan_of
from seqnorm.nn.backends.reference import input_term

pytestmark = needs_kernels
I, H = 5, 21  # noqa: E741  the axes' letters
LENGTHS = [7, 0, 9, 5, 5, 2, 6, 1, 1]
POOLED = Norm("batch_pooled", eps=1e-3)
Threads = Callable[[int], None]


def every_scheme() -> dict[str, tuple[str, NormScheme]]:
    """Return the norm alone and beside norms of a row, with each place of the biases."""
    found: dict[str, tuple[str, NormScheme]] = {}
    bare = Norm("batch_pooled", gain=None, bias=None, momentum=None, min_count=5)
    for cell in library.STEPS:
        schemes = {
            "alone": NormScheme(input=POOLED),
            "bare": NormScheme(input=bare, bias_ih="inside", bias_hh="outside"),
            "layer": NormScheme(input=POOLED, hidden=Norm("layer"), bias_ih="both"),
            "rms": NormScheme(
                input=bare, hidden=Norm("rms", "separate"), bias_ih=None, bias_hh="outside"
            ),
        }
        if cell == "LSTM":
            cells = {"cell": Norm("layer", eps=0.1), "cell_state": "normalised"}
            schemes["cell"] = NormScheme(input=POOLED, **cells)
            schemes["all"] = NormScheme(input=POOLED, hidden=Norm("layer", "separate"), **cells)
        if cell == "GRU":
            schemes["write"] = NormScheme(input=POOLED, bias_hh="outside", update="write")
        found |= {f"{cell} {name}": (cell, scheme) for name, scheme in schemes.items()}
    return found


SCHEMES = every_scheme()
CASES = ["LSTM alone", "LSTM all", "LSTM bare", "GRU alone", "GRU layer", "LiGRU alone"]
CASES += ["LiGRU rms", "RNN bare", "IndRNN alone", "IndRNN layer"]


def layer_of(name: str, hidden: int = H, **options: Any) -> Any:
    """Return a layer whose table has seen a batch."""
    cell, norm = SCHEMES[name]
    if cell in NONLINEAR:
        # With ReLU, the state of a LiGRU grows so much that float32 has no digits left.
        options["nonlinearity"] = "tanh"
    layer = build(cell, norm, I, hidden, **options)
    with torch.no_grad(), seqnorm.use_backend("reference"):
        layer(torch.randn(5, 6, I, dtype=F64))
    return layer


@pytest.mark.parametrize("name", SCHEMES)
def test_the_kernels_take_it(name: str) -> None:
    """The plan has no work before the kernels, in training and in inference."""
    (direction,) = layer_of(name).directions()
    for plan in (plan_of(direction), inference_plan(direction)):
        assert plan.reason is None
        assert plan.pooled
        assert not plan.batch
        assert not plan.hoisted
        assert not plan.outside


@pytest.mark.parametrize(
    ("cell", "scheme"),
    [
        ("LSTM", NormScheme(input=POOLED, hidden=Norm("batch"))),
        ("LSTM", NormScheme(input=POOLED, cell=Norm("batch"))),
        ("GRU", NormScheme(input=POOLED, hidden=Norm("batch"))),
        ("LSTM", NormScheme(input=Norm("batch_pooled", eps_on="std"))),
    ],
)
def test_a_norm_before_the_kernels(cell: str, scheme: NormScheme) -> None:
    """Beside statistics of every step, which may divide a call, and with eps on the deviation."""
    layer = build(cell, scheme, I, H)
    (direction,) = layer.directions()
    assert plan_of(direction).hoisted
    assert not plan_of(direction).pooled
    call = Call.draw(layer, LENGTHS)
    for training in (True, False):
        expected = outcome(layer.train(training), call, "reference")
        assert_same(outcome(layer, call), expected)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, all gradients and tables, in training and in inference."""
    threads(number)
    for hidden, training in itertools.product((3, 70), (True, False)):
        layer = layer_of(name, hidden).train(training)
        call = Call.draw(layer, LENGTHS)
        expected = outcome(layer, call, "reference")
        for variant in each_variant(monkeypatch):
            what = f"H = {hidden}, training = {training}, {variant}"
            assert_same(outcome(layer, call), expected, what)
            assert_single(layer, call, expected, what)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_many_rows(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moments of several blocks and threads are merged; steps of few rows are shared by units."""
    threads(number)
    layer = layer_of(name, 37, num_layers=2, bidirectional=True)
    for lengths in ([6] * 40 + [5] * 35 + [3] * 2 + [1] * 10, [3] * 130 + [2] * 7, [40, 38]):
        for training in (True, False):
            call = Call.draw(layer.train(training), lengths)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, variant)
                assert_single(layer, call, expected, variant)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_threads_that_share_rows(
    cell: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows of a large layer, of which each thread has some units."""
    threads(number)
    layer = layer_of(f"{cell} layer", 224)
    for lengths in ([5], [5, 3, 2]):
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call, "reference")
        for variant in each_variant(monkeypatch):
            assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", SCHEMES)
def test_a_batch_of_few_rows(name: str, number: int, threads: Threads) -> None:
    """With fewer rows than ``min_count`` in all steps, the table is read in training too."""
    threads(number)
    for lengths in ([1], [0, 1], [2], [1, 1, 2], [3, 2], [4, 1, 2]):
        layer = layer_of(name)
        call = Call.draw(layer, lengths)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "BatchNorm in training on")
            assert_same(outcome(layer, call), outcome(layer, call, "reference"), str(lengths))


def test_directions_run_together(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both directions of a layer are one call of the kernels, each with a table of its own."""
    threads(2)
    numbers: list[int] = []
    real = cpu.recurrences

    def spy(calls: Any) -> Any:
        numbers.append(len(calls))
        return real(calls)

    monkeypatch.setattr(cpu, "recurrences", spy)
    layer = layer_of("LSTM layer", bidirectional=True)
    call = Call.draw(layer, LENGTHS)
    for training in (True, False):
        expected = outcome(layer.train(training), call, "reference")
        assert_same(outcome(layer, call), expected)
    assert numbers == [2, 2]


@pytest.mark.parametrize("name", CASES)
def test_one_step_after_another(name: str) -> None:
    """Without gradients and lengths, by the addresses of the parameters, the table is the same."""
    layer = layer_of(name, num_layers=2).eval()
    call = Call.draw(layer, None, B=3, T=4)
    with torch.no_grad():
        with seqnorm.use_backend("reference"):
            expected, _ = layer(call.input, as_hx(call.state))
        for _ in range(2):
            assert_close(layer(call.input, as_hx(call.state))[0], expected, VALUES)
        state: Any = as_hx(call.state)
        for t in range(4):
            output, state = layer(call.input[t : t + 1], state, first_step=t)
            assert_close(output[0], expected[t], VALUES)


@pytest.mark.parametrize("name", SCHEMES)
def test_without_gradients_in_training(name: str) -> None:
    """Tables and results are bitwise the same as with gradients."""
    layer = layer_of(name)
    for lengths in (LENGTHS, [6] * 20 + [4] * 10 + [2] * 7):
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call)
        before = {key: buffer.clone() for key, buffer in layer.named_buffers()}
        with torch.no_grad(), seqnorm.use_backend("cpu"):
            output, _ = layer(call.input, as_hx(call.state), call.lengths)
        assert_equal(output, expected["output"])
        for key, buffer in layer.named_buffers():
            assert_equal(buffer.to(F64), expected[key], key)
            assert not buffer.equal(before[key]), key
            assert not buffer.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_a_second_backward_pass(name: str) -> None:
    """A second backward pass gives the same gradients after another call changed the table."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    leaves = leaves_of(layer, call)
    values = list(leaves.values())
    results = results_of(layer, leaves, LENGTHS)
    first = torch.autograd.grad(results, values, call.cotangents, retain_graph=True)
    layer(torch.randn(9, 8, I, dtype=F64))
    second = torch.autograd.grad(results, values, call.cotangents, retain_graph=True)
    third = torch.autograd.grad(results, values, call.cotangents)
    for leaf, a, b, c in zip(leaves, first, second, third):
        assert_equal(b, a, leaf)
        assert_equal(c, a, leaf)


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_alone(name: str) -> None:
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    leaves = leaves_of(layer, call)
    together = torch.autograd.grad(
        results_of(layer, leaves, LENGTHS), list(leaves.values()), call.cotangents
    )
    for leaf, expected in zip(leaves, together):
        for other, value in leaves.items():
            value.requires_grad_(other == leaf)
        pairs = list(zip(results_of(layer, leaves, LENGTHS), call.cotangents))
        reached, cotangents = zip(*(pair for pair in pairs if pair[0].requires_grad))
        (grad,) = torch.autograd.grad(reached, leaves[leaf], cotangents)
        assert_close(grad, expected, SUMS, leaf)


@pytest.mark.parametrize("name", SCHEMES)
def test_gradients_of_gradients(name: str) -> None:
    """A penalty on all gradients, in training."""
    layer = layer_of(name, 4)
    call = Call.draw(layer, LENGTHS)
    found = []
    for backend in ("reference", "cpu"):
        leaves = leaves_of(layer, call)
        values = list(leaves.values())
        results = results_of(layer, leaves, LENGTHS, backend)
        grads = torch.autograd.grad(results, values, call.cotangents, create_graph=True)
        loss = sum(grad.sin().sum() for grad in grads) + results[0].square().sum()
        found.append((*grads, *torch.autograd.grad(loss, values)))
    for leaf, expected, actual in zip((*leaves, *leaves), *found):
        assert_close(actual.detach(), expected.detach(), GRADIENTS, leaf)


def test_a_call_without_the_matrix_of_the_input() -> None:
    """The kernels refuse a finished term, which they would have to change."""
    (direction,) = layer_of("LSTM alone").directions()
    tensors: dict[str, Any] = dict.fromkeys(Inputs._fields)
    tensors |= {"input": torch.randn(4, 4 * H, dtype=F64), "weight_hh": direction.weight_hh}
    tensors |= {part: torch.zeros(2, H, dtype=F64) for part in ("h_0", "c_0")}
    call = KernelCall(plan_of(direction), [2, 2], (0.0, 0.0))
    with pytest.raises(RuntimeError, match="weight_ih is missing: a norm over time"):
        recurrence(call, Inputs(**tensors))


def test_a_graph_of_an_earlier_version() -> None:
    """There the norm over time stands before the operator, which takes the finished term."""
    layer = layer_of("LSTM layer").eval()
    (direction,) = layer.directions()
    x = torch.randn(4, 2, I, dtype=F64)
    expected, _ = layer(x)
    norms = direction.start([2] * 4)
    tensors: dict[str, Any] = dict.fromkeys(Inputs._fields)
    tensors |= {"input": input_term(direction, norms, x.flatten(0, 1))}
    tensors |= {part: torch.zeros(2, H, dtype=F64) for part in ("h_0", "c_0")}
    tensors |= {"weight_hh": direction.weight_hh, "gain_h": direction.affine["hidden"][0]}
    tensors |= {"bias_3": direction.affine["hidden"][1]}
    sizes = torch.tensor([2] * 4)
    assert direction.scheme is not None
    given = "LSTM", direction.scheme.text, [0.0, 0.0], sizes, *Inputs(**tensors)
    output = torch.ops.seqnorm.recurrence(*given)[0]
    assert_close(output.unflatten(0, (4, 2)), expected, VALUES)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
@pytest.mark.parametrize("name", CASES)
def test_padding_may_hold_anything(name: str, value: float) -> None:
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    for b, length in enumerate(LENGTHS):
        call.input[length:, b] = value
    for leaf, found in outcome(layer, call).items():
        assert_equal(found, expected[leaf], leaf)


def assert_same_where_finite(found: Outcome, expected: Outcome, tolerance: float) -> None:
    for leaf, value in expected.items():
        assert found[leaf].isfinite().equal(value.isfinite()), leaf
        assert found[leaf].isnan().equal(value.isnan()), leaf
        inside = value.isfinite()
        assert_close(found[leaf][inside], value[inside], tolerance, leaf)


@pytest.mark.parametrize(
    ("value", "dtype"),
    # The sigmoid of the kernels in float32 is never 0, which would turn an infinity into NaN.
    [(math.nan, F32), (math.nan, F64), (math.inf, F64), (-math.inf, F64)],
)
@pytest.mark.parametrize("name", CASES)
def test_nan_and_infinity(
    name: str, value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training they reach all rows and the table, in inference one sequence."""
    layer = layer_of(name).to(dtype)
    for training in (True, False):
        call = Call.draw(layer.train(training), LENGTHS).to(dtype)
        call.input[2, 2, 1] = value
        expected = outcome(layer, call, "reference")
        for _ in each_variant(monkeypatch):
            found = outcome(layer, call)
            assert_same_where_finite(found, expected, 1e-2 if dtype == F32 else VALUES)


@pytest.mark.parametrize("number", [1, 3])
def test_statistics_far_from_zero(
    number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 the moments of many rows keep as many digits as those of the definition."""
    threads(number)
    torch.manual_seed(0)
    scheme = NormScheme(input=Norm("batch_pooled", momentum=1.0), bias_ih="inside")
    layer = build("LSTM", scheme, I, H).float()
    with torch.no_grad():
        layer.bias_ih_l0.fill_(1000.0)
    x = torch.randn(300, 16, I)
    exact = F.linear(x.double(), layer.weight_ih_l0.detach().double()).flatten(0, 1) + 1000
    for _ in each_variant(monkeypatch):
        with torch.no_grad(), seqnorm.use_backend("cpu"):
            layer(x)
        table = layer.norm_ih_l0.table
        mean, var = table.running_mean[0].double(), table.running_var[0].double()
        assert float((mean - exact.mean(0)).abs().max()) < 4 * 1000 * 2.0**-23
        assert float((var / exact.var(0) - 1).abs().max()) < 1e-4


def test_the_same_every_time(threads: Threads) -> None:
    threads(3)
    for name in CASES:
        layer = layer_of(name, 130)
        call = Call.draw(layer, LENGTHS)
        first = outcome(layer, call)
        for _ in range(5):
            for leaf, value in outcome(layer, call).items():
                assert_equal(value, first[leaf], leaf)
