"""Weights of int8 in the kernels, against products of whole numbers in plain torch.

Axes: T steps, B sequences, I = input size, H = hidden size, P = proj_size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import whole_numbers
from beside_reference import F32, F64, build, each_variant, needs_kernels, taken
from hidden_states import as_hx, parts_of
from prepared_calls import results, trained
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import int8, library

pytestmark = [needs_kernels, pytest.mark.filterwarnings("ignore:BatchNorm in training")]
TAKEN = taken()
# One layer, and two layers in both directions. In one call a row has fewer numbers than a vector of
# any instruction set, in the other one it has some more than the largest.
SHAPES: list[tuple[int, int, dict[str, Any]]] = [
    (45, 36, {}),
    (5, 6, {"num_layers": 2, "bidirectional": True}),
]
LENGTHS = [3, 0, 7, 5, 7, 2, 0, 7]
# Values near 1 move by a few steps of 16 bits where float32 rounds to the other side.
ONE_STEP_OFF = 1e-3


def quantised(cell: str, norm: Any, I: int, H: int, **options: Any) -> Any:  # noqa: E741
    """Return a quantised float64 layer with statistics in its tables."""
    return seqnorm.quantize_(trained(cell, norm, I, H, **options))


def states(layer: Any, B: int) -> Any:
    """Draw a state (L * D, B, .); n of an sLSTM is positive."""
    found = []
    for letter, size in zip(layer.step.states, layer.state_sizes):
        part = torch.randn(sum(map(len, layer.suffixes)), B, size, dtype=F64)
        found.append(part.abs() + 0.5 if letter == "n" else part)
    return as_hx(found)


def by_definition(layer: Any, *given: Any, **options: Any) -> tuple[Tensor, ...]:
    with whole_numbers.definition():
        return results(layer, *given, **options)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], what: str) -> None:
    for value, wanted in zip(found, expected):
        assert_close(value, wanted, VALUES, what)


@pytest.mark.parametrize("name", TAKEN)
def test_every_norm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, norm = TAKEN[name]
    for I, H, options in SHAPES:  # noqa: E741
        layer = quantised(cell, norm, I, H, **options)
        x, hx = torch.randn(max(LENGTHS), len(LENGTHS), I, dtype=F64), states(layer, len(LENGTHS))
        expected = by_definition(layer, x, hx, LENGTHS)
        for variant in each_variant(monkeypatch):
            with seqnorm.use_backend("cpu"):
                assert_same(results(layer, x, hx, LENGTHS), expected, variant)


@pytest.mark.parametrize("P", [0, 1, 15, 64])
def test_sizes(P: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows around the widths of vectors, and one to nine of them, in a prepared call."""
    for I, H in ((1, 2), (7, 16), (8, 17), (16, 65), (31, 66), (32, 70), (33, 90), (130, 131)):  # noqa: E741
        layer = quantised("LSTM", "layer", I, H, proj_size=P if P < H else H - 1)
        for T, B in ((1, 1), (1, 5), (2, 9)):
            x, hx = torch.randn(T, B, I, dtype=F64), states(layer, B)
            expected = by_definition(layer, x, hx)
            for variant in each_variant(monkeypatch):
                assert_same(results(layer, x, hx), expected, f"{variant}, {I}, {H}, {B}")


@pytest.mark.parametrize("cell", library.STEPS)
@pytest.mark.parametrize("norm", [None, NormScheme(input=Norm("rms"), hidden=Norm("layer"))])
def test_prepared_calls(cell: str, norm: NormScheme | None, calls: list[int]) -> None:
    layer = quantised(cell, norm, 9, 16, num_layers=2)
    single: Any = quantised(cell, norm, 9, 16)
    cell_alone: Any = getattr(seqnorm, f"{cell}Cell")(9, 16, norm=norm, dtype=F64).eval()
    names = {key.replace("_l0", ""): value for key, value in single.state_dict().items()}
    seqnorm.quantize_(cell_alone).load_state_dict(names)
    calls.clear()
    for T in (1, 4):
        x, hx = torch.randn(T, 3, 9, dtype=F64), states(layer, 3)
        assert_same(results(layer, x, hx), by_definition(layer, x, hx), "layer")
    state = tuple(part[0] for part in parts_of(states(single, 3)))
    found = results(cell_alone, x[0], as_hx(state))
    last = results(single, x[:1], as_hx(tuple(part[None] for part in state)))[1:]
    assert_same(found, tuple(part[0] for part in last), "cell")
    assert calls == [1, 4, 1, 1]


def test_threads(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share rows, and threads with rows of their own."""
    for options in ({}, {"proj_size": 30}):
        layer = quantised("LSTM", "layer", 40, 200, **options)
        for T, B in ((1, 2), (5, 3), (3, 20)):
            x, hx = torch.randn(T, B, 40, dtype=F64), states(layer, B)
            expected = by_definition(layer, x, hx)
            for number in (1, 2, 3):
                threads(number)
                for variant in each_variant(monkeypatch):
                    assert_same(results(layer, x, hx), expected, f"{variant}, {number}, {B}")


@pytest.mark.parametrize("cell", library.STEPS)
def test_one_step_in_single_precision(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = quantised(cell, "layer", 45, 36)
    single = copy.deepcopy(layer).float()
    x, hx = torch.randn(1, 4, 45, dtype=F64), states(layer, 4)
    expected = by_definition(layer, x, hx)
    halved = as_hx(tuple(part.float() for part in parts_of(hx)))
    for variant in each_variant(monkeypatch):
        for value, wanted in zip(results(single, x.float(), halved), expected):
            assert_close(value.double(), wanted, ONE_STEP_OFF, variant)


@pytest.mark.parametrize("T", [1, 50])
def test_many_rows_of_a_small_matrix_are_in_floats(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = quantised("LSTM", "layer", 5, 6)
    x = torch.randn(T, int8.FEW_ROWS // T + 1, 5, dtype=F64)
    with seqnorm.use_backend("reference"):
        expected = results(layer, x)
    assert_same(results(layer, x), expected, "floats")
    monkeypatch.setattr(int8, "SMALL", 0)
    assert_same(results(copy.deepcopy(layer), x), by_definition(layer, x), "whole numbers")


def product_alone(weight: Tensor, dtype: torch.dtype) -> Any:
    """Return a layer whose output is max(0, W x)."""
    layer = seqnorm.RNN(weight.shape[1], len(weight), nonlinearity="relu", bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(weight)
        layer.weight_hh_l0.zero_()
    return seqnorm.quantize_(layer.eval())


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("K", [10, 516, 517, 3000])
def test_sums_of_the_largest_numbers(
    K: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest sum that 32 bits have to hold, and the smallest."""
    layer = product_alone(torch.tensor([[1.0], [-1.0]]).expand(2, K), dtype)
    for variant in each_variant(monkeypatch):
        for sign in (1, -1):
            found, _ = results(layer, torch.full((1, 1, K), sign * 2.0, dtype=dtype))
            expected = torch.tensor([[[2.0 * K, 0.0]]]).to(dtype)
            assert_close(found, expected if sign > 0 else expected.flip(-1), 1e-6, variant)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_of_every_size(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of zeros, rows of tiny and huge numbers, and rows with what is no number."""
    weight = torch.randn(20, 40)
    layer = product_alone(weight, dtype)
    x = torch.randn(1, 7, 40, dtype=dtype)
    scales = torch.tensor([1.0, 0.0, 1e-44, 1e-30, 1e30, 1.0, 1.0], dtype=dtype)
    rows = x * scales[:, None]
    rows[0, 5, 3], rows[0, 6, 39] = math.nan, math.inf
    with seqnorm.use_backend("reference"):
        expected, _ = results(layer, x)
    for variant in each_variant(monkeypatch):
        found, _ = results(layer, rows)
        assert bool(found[0, 5:].isnan().all()), variant
        assert_equal(found[0, 1], torch.zeros_like(found[0, 1]), variant)
        assert float(found[0, 2].max()) < 1e-35
        for row in (0, 3, 4):
            assert_close(found[0, row] / scales[row], expected[0, row], 1e-3, variant)


def test_calls_that_are_left_to_the_definition() -> None:
    layer = quantised("LSTM", "layer", 5, 6).float()
    x = torch.randn(3, 2, 5)
    assert "under torch.no_grad()" in str(seqnorm.explain(layer, x).reasons["_l0"]["cpu"])
    with torch.no_grad():
        assert seqnorm.explain(layer, x).reasons["_l0"]["cpu"] is None
        with torch.autocast("cpu", torch.bfloat16):
            assert "weights of int8" in str(seqnorm.explain(layer, x).reasons["_l0"]["cpu"])
            found, _ = layer(x)
            with seqnorm.use_backend("reference"):
                assert_equal(found, layer(x)[0])
    plain = seqnorm.quantize_(build("LSTM", None, 5, 6)).eval()
    assert "no weights of int8" in str(seqnorm.explain(plain, x.double()).reasons["_l0"]["aten"])
