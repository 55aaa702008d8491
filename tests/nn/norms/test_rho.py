"""The share rho of BatchInstanceNorm2d: clipped in the forward pass, and led back from outside."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor

import seqnorm
from seqnorm import BatchInstanceNorm2d, BatchNorm2d

N, C, H, W = 4, 3, 3, 4
EPS = 1e-3
# torch.compile makes an instance of every torch.autograd.Function, of which torch itself warns.
of_dynamo = pytest.mark.filterwarnings(
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"
)


def build(**options: Any) -> BatchInstanceNorm2d:
    return BatchInstanceNorm2d(C, EPS, dtype=torch.float64, **options)


def draw() -> Tensor:
    """Return images that differ in mean and contrast, so that the two sets do not agree."""
    x = torch.randn(N, C, H, W) * (torch.rand(N, C, 1, 1) + 0.5)
    return (2.0 * x + torch.randn(N, C, 1, 1)).double()


@pytest.mark.parametrize(
    ("rho", "grad", "expected"),
    [
        (0.5, 2.0, 2.0),
        (1.0, -2.0, -2.0),
        (0.0, 2.0, 2.0),
        (1.1, -2.0, 0.0),  # a step would lead further out
        (1.1, 2.0, 2.0),  # and here back
        (-0.1, 2.0, 0.0),
        (-0.1, -2.0, -2.0),
    ],
)
def test_the_gradient_of_rho_outside_leads_back_or_is_zero(
    rho: float, grad: float, expected: float
) -> None:
    norm, x = build(affine=False), draw()
    norm.rho.data.fill_(rho)
    border = copy.deepcopy(norm)
    border.rho.data.clamp_(0.0, 1.0)
    # The difference of the parts, on which the gradient of rho depends, is known at the border.
    y = border(x)
    (of_rho,) = torch.autograd.grad(y, border.rho, torch.ones_like(x) * x)
    cotangent = x * (grad / of_rho)[:, None, None]
    (found,) = torch.autograd.grad(norm(x), norm.rho, cotangent)
    assert_close(found, torch.full((C,), expected).double(), GRADIENTS)


def test_rho_stops_one_step_outside_and_returns() -> None:
    """The targets lie beyond the border, so that the gradient never vanishes there."""
    norm, x = build(affine=False), draw()
    batch = BatchNorm2d(C, EPS, affine=False).double()(x)
    instance = seqnorm.InstanceNorm2d(C, EPS)(x)
    optimiser = torch.optim.SGD(norm.parameters(), lr=0.3)
    for share in (2.0, -1.0, 2.0):
        target, longest = share * batch + (1.0 - share) * instance, 0.0
        for _ in range(300):
            optimiser.zero_grad()
            (norm(x) - target).square().mean().backward()
            assert norm.rho.grad is not None
            longest = max(longest, 0.3 * norm.rho.grad.abs().max().item())
            optimiser.step()
        outside = (norm.rho - 1.0 if share > 0 else -norm.rho).detach()
        assert 0.0 < longest < 1.0
        assert bool(((outside > 0.0) & (outside <= longest + VALUES)).all())


@of_dynamo
def test_a_graph_has_the_same_gradient_of_rho() -> None:
    norm, x = build(track_running_stats=False), draw()
    norm.rho.data.copy_(torch.tensor([0.4, 1.2, -0.3]))
    torch.compiler.reset()
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(norm(x).square().sum(), norm.rho)[0]
    assert bool(expected[0])
    assert_close(torch.autograd.grad(compiled(x).square().sum(), norm.rho)[0], expected, GRADIENTS)
