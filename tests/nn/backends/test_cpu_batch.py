"""Norms of the batch in the kernels: statistics of a step's rows, and those from the table.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
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
    rounding,
)
from hidden_states import as_hx
from tolerances import GRADIENTS, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import around
from seqnorm.nn.backends.cpu.call import Inputs

pytestmark = needs_kernels
I, H = 5, 21  # noqa: E741  the axes' letters
# 8, 6, 5, 5, 5, 3, 2, 1, 1 rows: the norms below stop using own statistics at different steps.
LENGTHS = [7, 0, 9, 5, 5, 2, 6, 1, 1]
NORMS = {
    "input": Norm("batch", max_steps=6, eps=1e-3),
    "hidden": Norm("batch", max_steps=4, momentum=None, bias=None),
    "cell": Norm("batch", min_count=5, momentum=0.5, eps=0.01),
    "sum": Norm("batch", max_steps=7, min_count=3, momentum=0.9, gain=None, bias=None),
}
ENDS = {"input": 6, "hidden": 4, "cell": 5, "sum": 6}
TERMS = {"input": "x", "hidden": "h", "sum": "h", "cell": "c"}
Threads = Callable[[int], None]


def every_scheme() -> dict[str, tuple[str, NormScheme]]:
    """Yield schemes with each site alone and all compatible sites together.

    The places of biases and the state that is fed back alternate.
    """
    found: dict[str, tuple[str, NormScheme]] = {}
    terms = [(), ("input",), ("hidden",), ("input", "hidden"), ("sum",)]
    places = itertools.cycle(["outside", "inside", "both", None])
    others = itertools.cycle(["outside", None, None])
    for sites in terms:
        for cell in (None, "raw", "normalised"):
            norms: dict[str, Any] = {site: NORMS[site] for site in sites}
            norms |= {"cell": NORMS["cell"], "cell_state": cell} if cell else {}
            if "sum" in norms:
                norms |= {"bias_ih": "inside", "bias_hh": None if cell else "inside"}
            else:
                norms |= {"bias_ih": next(places), "bias_hh": next(others)}
            if sites or cell:
                name = " ".join(["LSTM", *sites, *([] if cell is None else ["cell", cell])])
                found[name] = "LSTM", NormScheme(**norms)
        if sites:
            for update in ("keep", "write"):
                norms = {site: NORMS[site] for site in sites} | {"update": update}
                if "sum" in norms:
                    norms |= {"bias_ih": None, "bias_hh": "inside"}
                else:
                    norms |= {"bias_ih": next(places), "bias_hh": next(others)}
                found[" ".join(["GRU", *sites, update])] = "GRU", NormScheme(**norms)
            for other in NONLINEAR:
                norms.pop("update", None)
                found[" ".join([other, *sites])] = other, NormScheme(**norms)
    return found


BATCH = every_scheme()
# Three norms (the carried c normalised or raw), two norms, and one norm.
CASES = ["LSTM input hidden cell normalised", "LSTM input hidden cell raw", "LSTM sum cell raw"]
CASES += ["GRU input hidden keep", "GRU sum write", "LiGRU input hidden", "RNN sum"]
CASES += ["IndRNN input hidden", "IndRNN sum"]


def layer_of(name: str, hidden: int = H, **options: Any) -> Any:
    """Return a layer whose tables have seen the first steps of one batch and fewer of another."""
    cell, norm = BATCH[name]
    limits = {name: options.pop(name) for name in ("r_max", "d_max") if name in options}
    norm = norm.replace(**limits) if limits else norm
    if cell in NONLINEAR:
        # With ReLU, the state of a LiGRU grows so much that float32 has no digits left.
        options["nonlinearity"] = "tanh"
    layer = build(cell, norm, I, hidden, **options)
    with torch.no_grad(), seqnorm.use_backend("reference"):
        for lengths in ([5] * 6, [3] * 7):
            layer(torch.randn(max(lengths), len(lengths), I, dtype=F64), lengths=lengths)
    return layer


def check(layer: Any, call: Call, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare each instruction set, in both precisions, with the reference."""
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, f"{what}, {variant}")
        assert_single(layer, call, expected, f"{what}, {variant}")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("name", BATCH)
def test_every_site(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, all gradients and tables, in training and in inference."""
    threads(number)
    for hidden, training in itertools.product((3, 70), (True, False)):
        layer = layer_of(name, hidden).train(training)
        what = f"H = {hidden}, training = {training}"
        check(layer, Call.draw(layer, LENGTHS), what, monkeypatch)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_batch_renormalization(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, gradients and tables where some corrections are clipped, and others are not."""
    threads(number)
    for hidden, limits in itertools.product((3, 70), ((1.2, 0.3), (1e9, 1e9))):
        layer = layer_of(name, hidden, r_max=limits[0], d_max=limits[1])
        assert seqnorm.explain(layer, torch.randn(9, 9, I, dtype=F64)).backends == {"_l0": "cpu"}
        what = f"H = {hidden}, limits = {limits}"
        check(layer, Call.draw(layer, LENGTHS), what, monkeypatch)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_many_rows(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many rows, W_ih x is computed at each step, and sums of gradients are divided."""
    threads(number)
    layer = layer_of(name, 37, num_layers=2, bidirectional=True)
    for lengths in ([6] * 40 + [5] * 35 + [3] * 2 + [1] * 10, [3] * 130 + [2] * 7):
        for training in (True, False):
            call = Call.draw(layer.train(training), lengths)
            check(layer, call, f"training = {training}", monkeypatch)


Parts = list[tuple[int, tuple[str, ...]]]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Record the steps of every call of the kernels, and the terms with statistics of its rows."""
    seen: Parts = []
    real = around.recurrence

    def spy(call: Any, inputs: Inputs, engine: Any) -> tuple[Tensor, ...]:
        seen.append((len(call.sizes), call.own(inputs)))
        return real(call, inputs, engine)

    monkeypatch.setattr(around, "recurrence", spy)
    return seen


@pytest.mark.parametrize("name", BATCH)
def test_where_a_call_is_cut(name: str, parts: Parts) -> None:
    """A call is cut at the first step with too few rows or past the table of a norm.

    In inference it is never cut.
    """
    _, norm = BATCH[name]
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    ends = {term: ENDS[site] for site, term in TERMS.items() if site in norm.norms}
    cuts = sorted({0, 9, *ends.values()})
    expected = [
        (b - a, tuple(term for term in "xhc" if a < ends.get(term, 0)))
        for a, b in zip(cuts, cuts[1:])
    ]
    parts.clear()
    outcome(layer, call)
    assert parts == expected
    assert len(parts) == 1 + len(set(ends.values()))
    parts.clear()
    outcome(layer.eval(), call)
    assert parts == [(9, ())]


def test_float32_has_digits_left() -> None:
    """The tolerance for float32 is small: a thousandth of the result."""
    losses = []
    for name in BATCH:
        layer = layer_of(name)
        call = Call.draw(layer, LENGTHS)
        losses.append(max(rounding(layer, call, outcome(layer, call, "reference"))))
    assert max(losses) < 1e-3
    assert sorted(losses)[len(losses) // 2] < 1e-4


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", BATCH)
def test_a_batch_of_few_rows(name: str, number: int, threads: Threads) -> None:
    """With 1 to 5 sequences, no step, only the first step or every step has enough rows."""
    threads(number)
    for lengths in ([4], [3, 3], [4, 1], [3, 0, 2, 0], [3, 1, 2], [4, 4, 4], [2, 3, 3, 3, 3]):
        layer = layer_of(name)
        call = Call.draw(layer, lengths)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "BatchNorm in training on")
            assert_same(outcome(layer, call), outcome(layer, call, "reference"), str(lengths))


def test_a_batch_of_few_rows_warns() -> None:
    layer = build("LSTM", "batch", I, H)
    with pytest.warns(UserWarning, match=r"BatchNorm in training on 1 row\(s\), min_count=2"):
        layer(torch.randn(3, 1, I, dtype=F64))


@pytest.mark.parametrize("name", BATCH)
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
    """A second backward pass gives the same gradients after other calls have changed the tables."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call, "reference")
    leaves = leaves_of(layer, call)
    results = results_of(layer, leaves, LENGTHS)
    values = list(leaves.values())
    first = torch.autograd.grad(results, values, call.cotangents, retain_graph=True)
    layer(torch.randn(9, 8, I, dtype=F64))
    second = torch.autograd.grad(results, values, call.cotangents, retain_graph=True)
    third = torch.autograd.grad(results, values, call.cotangents)
    names = ["input", "h_0", "c_0"][: 1 + len(call.state)]
    names += [leaf for leaf, _ in layer.named_parameters()]
    for leaf, a, b, c in zip(names, first, second, third):
        assert_equal(b, a, leaf)
        assert_equal(c, a, leaf)
        assert_close(a, expected[f"gradient of {leaf}"], GRADIENTS, leaf)


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


@pytest.mark.parametrize("name", BATCH)
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
        # A second derivative contains the cube of 1 / deviation, which only eps limits.
        assert_close(actual.detach(), expected.detach(), GRADIENTS, leaf)


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
@pytest.mark.parametrize("name", BATCH)
def test_nan_and_infinity(
    name: str, value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They spread as in the definition.

    In training they reach the rows and the table of a step, in inference one sequence.
    """
    layer = layer_of(name).to(dtype)
    for training, step in ((True, 7), (True, 2), (False, 2)):
        call = Call.draw(layer.train(training), LENGTHS).to(dtype)
        call.input[step, 2, 1] = value
        expected = outcome(layer, call, "reference")
        finite = expected["output"].isfinite()
        assert bool(finite.any())
        if math.isnan(value):
            assert not bool(finite.all())
        for _ in each_variant(monkeypatch):
            found = outcome(layer, call)
            assert_same_where_finite(found, expected, 1e-2 if dtype == F32 else VALUES)


def test_the_same_every_time(threads: Threads) -> None:
    threads(3)
    for name in CASES:
        layer = layer_of(name, 130)
        call = Call.draw(layer, LENGTHS)
        first = outcome(layer, call)
        for _ in range(5):
            for leaf, value in outcome(layer, call).items():
                assert_equal(value, first[leaf], leaf)
