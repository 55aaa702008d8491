"""Properties of the sLSTM alone: its exponentials, its first step, its heads.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import pytest
import torch
from comparing import Case, H, I, T, build, compare, randomise
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor

from seqnorm import SLSTM


def without_m(layer: SLSTM, x: Tensor) -> Tensor:
    """Beck et al. 2024, eq. 8-14, without the stabiliser (eq. 15-17), from zeros, with one head."""
    h = c = n = torch.zeros(x.shape[1], H).double()
    outputs = []
    for x_t in x:
        terms = x_t @ layer.weight_ih_l0.T + h @ layer.weight_hh_l0.T + layer.bias_ih_l0
        i, f, z, o = terms.split(H, 1)
        c = torch.sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
        n = torch.sigmoid(f) * n + torch.exp(i)
        h = torch.sigmoid(o) * (c / n)
        outputs.append(h)
    return torch.stack(outputs)


def test_the_stabiliser_changes_nothing() -> None:
    layer = build("SLSTM", None, num_heads=1)
    randomise(layer)
    x = torch.randn(T, 4, I).double()
    wanted, (ours, _) = without_m(layer, x), layer(x)
    assert_close(ours, wanted, VALUES)
    cotangent = torch.randn_like(wanted)
    parameters = list(layer.parameters())
    theirs = torch.autograd.grad((cotangent * wanted).sum(), parameters)
    for actual, expected in zip(torch.autograd.grad((cotangent * ours).sum(), parameters), theirs):
        assert_close(actual, expected, GRADIENTS)


def test_m_is_a_scale_of_c_and_n() -> None:
    """(c, n, m) and (e^a c, e^a n, m - a) are the same state."""
    layer = build("SLSTM", None)
    randomise(layer)
    case = Case.draw(layer, lengths=(T,) * 4)
    assert case.states is not None
    h, c, n, m = case.states
    a = torch.randn_like(c)
    output, (last, *_) = layer(case.input, case.states)
    same, (same_last, *_) = layer(case.input, (h, c * a.exp(), n * a.exp(), m - a))
    assert_close(same, output, VALUES)
    assert_close(same_last, last, VALUES)


@pytest.mark.parametrize("name", ["none", "n", "n and c", "half of n"])
def test_a_first_step_is_one_of_n_zero(name: str) -> None:
    """For each unit: with n = 0, neither c nor m of the old state has an influence on m."""
    layer = build("SLSTM", None)
    randomise(layer)
    case = Case.draw(layer)
    assert case.states is not None
    h, c, n, m = case.states
    if name == "half of n":
        n = torch.where(torch.rand_like(n) < 0.5, 0.0, n)
    elif name != "none":
        n = torch.zeros_like(n)
    if name == "n and c":
        c = torch.zeros_like(c)
    # Large values, so that the exponential of the forget gate would exceed 1.
    compare(layer, None, Case(case.input, case.lengths, (h, c, n, m + 3.0)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("gate", range(4))
@pytest.mark.parametrize("size", [-1e4, -200.0, 200.0, 1e4])
def test_gates_of_any_size(size: float, gate: int, dtype: torch.dtype) -> None:
    """Neither values nor gradients overflow, from zero states and from others."""
    layer = build("SLSTM", None).to(dtype)
    with torch.no_grad():
        layer.bias_ih_l0[gate * H : (gate + 1) * H] += size
    x = torch.randn(T, 3, I, dtype=dtype)
    states = Case.draw(layer, lengths=(T,) * 3).states
    assert states is not None
    hx = tuple(part.to(dtype).requires_grad_() for part in states)
    for given in ((), hx):
        output, state = layer(x, given or None)
        total = sum(part.sum() for part in (output, *state))
        gradients = torch.autograd.grad(total, [*layer.parameters(), *given])
        for value in (output, *state, *gradients):
            assert bool(value.isfinite().all())


def test_heads_see_themselves_alone() -> None:
    """Row r of a gate belongs to head (r mod H) // (H / num_heads), in order."""
    layer = build("SLSTM", None, hidden=8, num_heads=4)
    assert layer.weight_hh_l0.shape == (32, 2)
    case = Case.draw(layer, lengths=(T,) * 3)
    assert case.states is not None
    before, _ = layer(case.input, case.states)
    h, *others = case.states
    h = h.clone()
    h[..., 2:4] += 1.0
    after, _ = layer(case.input, (h, *others))
    moved = (after - before).abs().amax((0, 1)) > 1e-6
    assert moved.tolist() == [False, False, True, True, False, False, False, False]
    with torch.no_grad():
        for gate in range(4):
            layer.weight_hh_l0[gate * 8 + 6 : gate * 8 + 8] += 1.0
    final, _ = layer(case.input, case.states)
    assert_equal(final[..., :6], before[..., :6])
    assert (final - before)[..., 6:].abs().max() > 1e-3


def test_four_heads_by_default() -> None:
    assert SLSTM(I, 8).num_heads == 4
    assert SLSTM(I, 8).weight_hh_l0.shape == (32, 2)
