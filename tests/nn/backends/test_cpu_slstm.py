"""The kernels of the sLSTM at its edges: zero and equal states, huge gates, NaN, heads.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    Call,
    assert_equals_reference,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    single,
)
from tolerances import VALUES, assert_close

import seqnorm

pytestmark = needs_kernels
I, H = 5, 24  # noqa: E741  the axes' letters


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("norm", [None, "batch", "kinds"])
def test_heads(heads: int, norm: Any, threads: Callable[[int], None]) -> None:
    """Panels of each head, of fewer units than a vector too, divided among threads."""
    if norm == "kinds":
        rows = seqnorm.Norm("rms", "separate")
        norm = seqnorm.NormScheme(input=rows, hidden=rows)
    layer = build("SLSTM", norm, I, H, num_heads=heads, num_layers=2, bidirectional=True)
    for number in (1, 2, 3):
        threads(number)
        assert_equals_reference(layer, Call.draw(layer, [3, 0, 5, 5, 2]), f"{number} threads")


@pytest.mark.parametrize("number", [1, 2, 4])
def test_few_rows_of_many_units(number: int, threads: Callable[[int], None]) -> None:
    """Threads share the units of a row, in parts that do not cut a panel of a head."""
    threads(number)
    for heads in (2, 5):
        layer = build("SLSTM", None, I, 300, num_heads=heads)
        assert_equals_reference(layer, Call.draw(layer, [4, 2]), f"{heads} heads")


@pytest.mark.parametrize("zoneout", [0.0, 0.3])
def test_where_n_is_zero(zoneout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """m has no meaning there, also in a state that someone gives, and has no gradient."""
    layer = build("SLSTM", None, I, H, zoneout=zoneout)
    call = Call.draw(layer, [3, 1, 3])
    call.state[2][..., ::3] = 0.0
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


def test_equal_arguments_of_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have half of the gradient of m."""
    layer = build("SLSTM", None, I, H, bias=False)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    call = Call.draw(layer, None, B=3, T=1)
    # i = 0 and log sigmoid(0) + m = 0.
    call.state[3].copy_(-torch.nn.functional.logsigmoid(torch.zeros((), dtype=F64)))
    expected = outcome(layer, call, "reference")
    moved = expected["gradient of m_0"]
    call.state[3][..., ::2] -= 0.1  # the other ones are equal
    expected = outcome(layer, call, "reference")
    assert not torch.equal(moved, expected["gradient of m_0"])
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("size", [30.0, 300.0, 3000.0])
def test_huge_gates(size: float) -> None:
    """Exponentials stay within range in both precisions.

    In float32 the rounding of a gate of 300 is itself as large as the tolerance.
    """
    layer = build("SLSTM", None, I, H)
    with torch.no_grad():
        layer.bias_ih_l0.mul_(size)
    call = Call.draw(layer, [6, 2, 6])
    expected = outcome(layer, call, "reference")
    assert_same(outcome(layer, call), expected)
    found = outcome(single(layer), call.to(F32))
    if size < 100:
        assert_same(found, expected, dtype=F32)
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("gate", range(4))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(
    gate: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They appear where the definition has them, in each precision."""
    layer = build("SLSTM", None, I, H)
    with torch.no_grad():
        layer.bias_ih_l0[gate * H + 1] = value
    x = torch.randn(3, 2, I, dtype=F64)
    for dtype in (F64, F32):
        one = layer.to(dtype)
        with torch.no_grad(), seqnorm.use_backend("reference"):
            expected = one(x.to(dtype))
        for variant in each_variant(monkeypatch):
            with torch.no_grad(), seqnorm.use_backend("cpu"):
                found = one(x.to(dtype))
            for a, e in zip((found[0], *found[1]), (expected[0], *expected[1])):
                assert torch.equal(a.isnan(), e.isnan()), f"{variant}, {dtype}"
                assert torch.equal(a.isinf(), e.isinf()), f"{variant}, {dtype}"
                tolerance = VALUES if dtype == F64 else 1e-5
                both = a.isfinite()
                assert_close(a[both], e[both], tolerance, f"{variant}, {dtype}")


def test_states_are_apart() -> None:
    """Each part of a final state has memory of its own, which a caller may change."""
    cell = seqnorm.SLSTMCell(I, H)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            state = cell(torch.randn(1, I))
        before = [part.clone() for part in state]
        with torch.no_grad():
            state[1].zero_()
        for part, value in zip(state[2:], before[2:]):
            assert part.is_contiguous()
            assert torch.equal(part, value)
