"""The stabiliser of an SLSTM in float32: exponential gates stay in range, also over many steps.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import pytest
import torch
from hidden_states import draw
from tolerances import GRADIENTS, SINGLE, VALUES, assert_close

import seqnorm

I, H, T, B = 3, 8, 6, 4  # noqa: E741  the axes' letters
F64 = torch.float64
EXTREMES = [-200.0, 0.0, 200.0]


def driven(i: float, f: float, norm: str | None = None) -> seqnorm.SLSTM:
    """Return a float32 layer whose two gates have about these values at every step."""
    layer = seqnorm.SLSTM(I, H, norm=norm)
    with torch.no_grad():
        layer.bias_ih_l0[:H] = i
        layer.bias_ih_l0[H : 2 * H] = f
    return layer


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("f", EXTREMES)
@pytest.mark.parametrize("i", EXTREMES)
def test_extreme_gates_are_finite(i: float, f: float, norm: str | None, given: bool) -> None:
    """In float32, exp(200) overflows and exp(-200) is 0; neither may reach the state."""
    layer = driven(i, f, norm)
    x = torch.randn(T, B, I, requires_grad=True)
    parts = [part.float().requires_grad_() for part in draw("SLSTM", 1, B, H)]
    hx = tuple(parts) if given else None
    output, final = layer(x, hx)
    results = [output, *final]
    assert all(bool(part.isfinite().all()) for part in results)
    assert bool((final[2] >= 0.5).all()), "n does not vanish"
    if norm != "layer":  # h is a mean of values of tanh(z), and of c / n at first
        furthest = max(1.0, float((hx[1] / hx[2]).detach().abs().max())) if hx else 1.0
        assert float(output.detach().abs().max()) <= furthest
    sources = [x, *layer.parameters(), *(hx or ())]
    for gradient in torch.autograd.grad(sum(part.sum() for part in results), sources):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("f", EXTREMES)
@pytest.mark.parametrize("i", EXTREMES)
def test_the_first_step_from_nothing_does_not_depend_on_i_and_f(i: float, f: float) -> None:
    """c / n is tanh(z) for any i, even if m = 0 is far above it."""
    layer = driven(i, f)
    x = torch.randn(1, B, I)
    output, (_, _, n, m) = layer(x)
    gates = x[0] @ layer.weight_ih_l0.T + layer.bias_ih_l0
    expected = gates[:, 3 * H :].sigmoid() * gates[:, 2 * H : 3 * H].tanh()
    assert_close(output[0], expected, SINGLE)
    assert_close(m[0], gates[:, :H], SINGLE)
    assert bool((n == 1).all())
    (slope,) = torch.autograd.grad(output.sum(), layer.weight_ih_l0)
    assert not slope[: 2 * H].any()
    assert bool(slope[2 * H :].all()), "z and o learn"


@pytest.mark.parametrize(("i", "f"), [(1.0, 6.0), (200.0, 200.0), (-200.0, 6.0), (6.0, -200.0)])
def test_many_steps_stay_finite(i: float, f: float) -> None:
    layer = driven(i, f)
    x = torch.randn(2000, 2, I, requires_grad=True)
    output, final = layer(x)
    for part in (output, *final):
        assert bool(part.isfinite().all())
    assert bool((output.abs() < 1).all())
    assert bool((final[2] <= 2001).all()), "n counts at most one a step"
    for gradient in torch.autograd.grad(output[-1].sum(), [x, *layer.parameters()]):
        assert bool(gradient.isfinite().all())
    twin = seqnorm.SLSTM(I, H, dtype=F64)
    twin.load_state_dict(layer.state_dict())
    expected = twin(x.detach().double())[0].float()
    assert_close(output, expected, 10 * SINGLE)  # a gate of 200 has five digits less


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("shift", [-3.0, 0.5, 40.0])
def test_outputs_do_not_depend_on_the_stabiliser(shift: float, heads: int) -> None:
    """(c exp(-s), n exp(-s), m + s) is the same state as (c, n, m), for each unit."""
    layer = seqnorm.SLSTM(I, H, num_heads=heads, dtype=F64)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    h, c, n, m = draw("SLSTM", 1, B, H)
    s = shift + torch.randn(1, B, H, dtype=F64)
    weights = torch.randn(T, B, H, dtype=F64)
    found = []
    for hx in ((h, c, n, m), (h, c * (-s).exp(), n * (-s).exp(), m + s)):
        output, (_, c_n, n_n, m_n) = layer(x, hx)
        grads = torch.autograd.grad((weights * output).sum(), [x, *layer.parameters()])
        found.append(([output, c_n / n_n, n_n.log() + m_n], grads))
    for a, e in zip(found[1][0], found[0][0]):
        assert_close(a, e, VALUES)
    for a, e in zip(found[1][1], found[0][1]):
        assert_close(a, e, GRADIENTS)
