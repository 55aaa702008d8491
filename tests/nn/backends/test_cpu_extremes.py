"""Extreme numbers: NaN, infinities, saturated gates and subnormal numbers.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    ULP,
    Call,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    single,
    sites_of_batch,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, SUMS, assert_close
from torch import Tensor

import seqnorm

pytestmark = needs_kernels
I, H = 5, 19  # noqa: E741  the axes' letters
LENGTHS = [3, 6, 0, 5, 6, 2, 6]
TAKEN = taken()
# Norms with statistics of single rows; statistics of a batch carry a NaN to every row.
OF_ROWS = [name for name, taken in TAKEN.items() if not sites_of_batch(*taken)]
CASES = ["LSTM None", "LSTM kiros2016", "LSTM icefall", "LSTM tfa"]
CASES += ["GRU None", "GRU kinds", "GRU dreamer", "GRU ba2016", "LiGRU None", "LiGRU kinds"]
CASES += ["RNN None", "RNN layer", "IndRNN None", "IndRNN kinds"]


def layer_of(name: str, **options: Any) -> Any:
    cell, norm = TAKEN[name]
    return build(cell, norm, I, H, **options)


def run(layer: Any, call: Call, backend: str = "cpu") -> tuple[Tensor, ...]:
    with seqnorm.use_backend(backend):
        output, last = layer(call.input, as_hx(call.state), lengths=call.lengths)
    return output, *parts_of(last)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("name", OF_ROWS)
def test_nan_stays_in_its_sequence(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN in the input gives NaN from that step on.

    Earlier steps and other sequences are bitwise unchanged, whatever the row of the NaN in a tile.
    """
    layer = layer_of(name).to(dtype)
    call = Call.draw(layer, LENGTHS).to(dtype)
    for _ in each_variant(monkeypatch):
        expected = run(layer, call)
        for sequence, step in ((1, 2), (4, 0), (6, 5)):
            input = call.input.clone()
            input[step, sequence, 1] = torch.nan
            found = run(layer, Call(input, LENGTHS, call.state, ()))
            bad = torch.zeros_like(found[0], dtype=torch.bool)
            bad[step:, sequence] = True
            assert found[0].isnan().equal(bad)
            assert found[0][~bad].equal(expected[0][~bad])
            for part, before in zip(found[1:], expected[1:]):
                assert bool(part[:, sequence].isnan().all())
                others = [b for b in range(len(LENGTHS)) if b != sequence]
                assert part[:, others].equal(before[:, others])


@pytest.mark.parametrize("name", OF_ROWS)
def test_gradients_of_other_sequences_know_no_nan(name: str) -> None:
    """This holds for inputs and states; gradients of the weights are sums, hence NaN."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    call.input[3, 4, 0] = torch.nan
    found = outcome(layer, call)
    others = [b for b in range(len(LENGTHS)) if b != 4]
    for leaf in ("input", *[f"{part}_0" for part in layer.step.states]):
        grad, before = found[f"gradient of {leaf}"], expected[f"gradient of {leaf}"]
        assert grad[:, others].equal(before[:, others])
    assert bool(found["gradient of input"][:, 4].isnan().any())
    assert bool(found["gradient of weight_hh_l0"].isnan().any())


@pytest.mark.parametrize("name", CASES)
def test_a_cotangent_that_is_nan(name: str) -> None:
    """A NaN loss for one step of one sequence reaches the past of this sequence alone."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    call.cotangents[0][3, 1] = torch.nan
    found = outcome(layer, call)
    grad, before = found["gradient of input"], expected["gradient of input"]
    bad = torch.zeros_like(grad, dtype=torch.bool)
    bad[:4, 1] = True
    assert grad.isnan().equal(bad)
    assert_close(grad[~bad], before[~bad], SUMS)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("name", CASES)
def test_infinity_is_what_it_is_to_the_definition(
    name: str, value: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinity saturates a gate, and its norm is NaN."""
    layer = layer_of(name).to(dtype)
    call = Call.draw(layer, LENGTHS).to(dtype)
    call.input[2, 4, 3] = value
    expected = run(layer, call, "reference")
    for _ in each_variant(monkeypatch):
        for found, part in zip(run(layer, call), expected):
            torch.testing.assert_close(found, part, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e12])
@pytest.mark.parametrize("name", TAKEN)
def test_huge_inputs(name: str, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results and gradients of saturated gates are finite, also in float32."""
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    call.input = (size * call.input).float().double()
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)
        for leaf, value in outcome(single(layer), call.to(F32)).items():
            assert bool(value.isfinite().all()), f"{variant}, {leaf}"


@pytest.mark.parametrize("name", CASES)
def test_huge_states_and_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(name)
    call = Call.draw(layer, LENGTHS)
    call.state = tuple(1e4 * part for part in call.state)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(1e3)
        layer.weight_ih_l0.mul_(1e3)
    call.state = tuple(part.float().double() for part in call.state)
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)
        for leaf, value in outcome(single(layer), call.to(F32)).items():
            assert bool(value.isfinite().all()), f"{variant}, {leaf}"


@pytest.mark.parametrize(("dtype", "tiny"), [(F32, 1e-40), (F64, 1e-310)])
@pytest.mark.parametrize("name", CASES)
def test_subnormal_numbers(
    name: str, dtype: torch.dtype, tiny: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs, states and cotangents are subnormal, and variances are 0 up to rounding."""
    layer = layer_of(name).to(dtype)
    call = Call.draw(layer, LENGTHS).to(dtype)
    call = Call(
        call.input * tiny,
        LENGTHS,
        tuple(part * tiny for part in call.state),
        (call.cotangents[0], *(part * tiny for part in call.cotangents[1:])),
    )
    assert 0 < float(call.input.abs().max()) < torch.finfo(dtype).smallest_normal
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant, dtype)


@pytest.mark.parametrize("name", TAKEN)
def test_constant_rows(name: str) -> None:
    """Zero inputs and states give sets of variance 0, where a norm's gradient is 1 / sqrt(eps)."""
    layer = layer_of(name).eval()
    call = Call.draw(layer, LENGTHS)
    call.input.zero_()
    for part in call.state:
        part.zero_()
    call.cotangents = tuple(0.01 * part for part in call.cotangents)
    assert_same(outcome(layer, call), outcome(layer, call, "reference"))


# Every relevant exponent, and both sides of the points where tanh changes its formula.
GRID = torch.cat(
    [
        torch.linspace(-100, 100, 4001),
        torch.linspace(-2, 2, 4001),
        torch.linspace(0.62, 0.63, 501),
        torch.logspace(-40, 2, 3001),
        -torch.logspace(-40, 2, 3001),
    ]
).double()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("hidden", [1, 32])
def test_sigmoid_and_tanh(hidden: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is right to two units in the last place: c after one step from one gate."""
    layer = seqnorm.LSTM(1, hidden, dtype=dtype)
    x = GRID.to(dtype)[None, :, None]
    for variant in each_variant(monkeypatch):
        for which, before, function in ((1, 1.0, torch.sigmoid), (2, 0.0, torch.tanh)):
            with torch.no_grad(), seqnorm.use_backend("cpu"):
                for parameter in layer.parameters():
                    parameter.zero_()
                layer.weight_ih_l0[which * hidden : (which + 1) * hidden] = 1.0
                layer.bias_ih_l0[:hidden] = 80.0  # sigmoid(i) = 1
                zero = torch.zeros(1, len(GRID), hidden, dtype=dtype)
                _, (_, found) = layer(x, (zero, zero + before))
            expected = function(x[0].double())
            ulp = ULP if dtype == F32 else 2.0**-52
            # exp is constant beyond 87, and sigmoid stays above 1.6e-38.
            distance = (found[0].double() - expected).abs()
            allowed = 2 * ulp * expected.abs() + (2e-38 if dtype == F32 else 0.0)
            worst = (distance / (allowed + 1e-300)).max()
            assert bool((distance <= allowed).all()), f"{variant}, {function}, {worst}"


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_no_deviation_to_which_eps_is_added(
    eps: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c is 0 at first, and then its norm has the derivative 1 / eps."""
    norm = seqnorm.NormScheme(cell=seqnorm.Norm("layer", eps=eps, eps_on="std"))
    layer = seqnorm.LSTM(I, H, bias=False, norm=norm, dtype=dtype)
    call = Call.draw(layer, LENGTHS).to(dtype)
    call.input[:2] = 0
    call = Call(call.input, call.lengths, tuple(0 * part for part in call.state), call.cotangents)
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        found = outcome(layer, call)
        for name, value in expected.items():
            assert_close(
                found[name], value, GRADIENTS if dtype is F64 else 1e-3, f"{name}, {variant}"
            )
