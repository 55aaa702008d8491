"""Moments, their merging and the normalisation compared with plain loops and torch's five norms."""

from __future__ import annotations

import itertools
import math

import oracle_moments
import pytest
import torch
import torch.nn.functional as F
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor
from torch_versions import rms_norm

from seqnorm.nn.statistics.moments import (
    Moments,
    merge,
    moments,
    normalise,
    pooled,
    unbiased,
    widen,
)

SHAPE = (3, 4, 5)
DIMS = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2), (-1,)]


def by_loops(
    x: Tensor, dims: tuple[int, ...], mask: Tensor, centred: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and count of every set, collected element by element."""
    dims = tuple(dim % x.dim() for dim in dims)
    sets: dict[tuple[int, ...], list[float]] = {}
    for index in itertools.product(*(range(n) for n in x.shape)):
        key = tuple(0 if dim in dims else i for dim, i in enumerate(index))
        values = sets.setdefault(key, [])
        if mask[index]:
            values.append(x[index].item())
    shape = [1 if dim in dims else n for dim, n in enumerate(x.shape)]
    mean, var, count = (torch.zeros(shape).double() for _ in range(3))
    for key, values in sets.items():
        if centred:
            mean[key], var[key] = oracle_moments.mean_and_variance(values)
        elif values:
            var[key] = math.fsum(value**2 for value in values) / len(values)
        count[key] = len(values)
    return mean, var, count


def masks() -> dict[str, Tensor]:
    """Return masks of random elements, with sets of 0 and 1 element, of whole rows, and empty."""
    some = torch.rand(SHAPE) < 0.6
    some[:, :, 0] = False
    some[1] = False
    some[1, 2, 3] = True
    rows = torch.tensor([[True, True, True, False], [True] * 4, [False] * 4])[..., None]
    return {"some": some, "rows": rows, "none": torch.zeros(SHAPE, dtype=torch.bool)}


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("which", ["all", "some", "rows", "none"])
@pytest.mark.parametrize("dims", DIMS)
def test_moments(dims: tuple[int, ...], which: str, centred: bool) -> None:
    x = 3.0 + 2.0 * torch.randn(SHAPE).double()
    mask = masks().get(which)
    whole = torch.ones(SHAPE, dtype=torch.bool) if mask is None else mask.expand(SHAPE)
    wanted = by_loops(x, dims, whole, centred)
    got = moments(x, dims, mask, centred=centred)
    for name, actual, expected in zip(Moments._fields, got, wanted):
        assert_close(actual.expand_as(expected), expected, SUMS, name)
    if which != "all":
        # Masked elements have no influence, also not on gradients.
        poisoned = x.masked_fill(~whole, float("nan")).requires_grad_()
        again = moments(poisoned, dims, mask, centred=centred)
        for actual, expected in zip(again, got):
            assert_equal(actual.detach(), expected)
        loss = (again.mean.sin() + again.var.cos()).sum()
        (gradient,) = torch.autograd.grad(loss, poisoned)
        assert not gradient[~whole].any()
        assert bool(gradient.isfinite().all())
        assert bool(gradient[whole].any()) == bool(whole.any())


@pytest.mark.parametrize("centred", [True, False])
def test_gradient_of_masked_moments(centred: bool) -> None:
    mask = masks()["some"]
    x = torch.randn(SHAPE).double().requires_grad_()

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return moments(x, (0, 1), mask, centred=centred)[:2]

    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))


def test_moments_far_from_zero() -> None:
    """Deviations are squared, so a mean of a million deviations causes no cancellation."""
    x = torch.randn(1000).double()
    _, var, _ = moments(x + 1e6, (0,))
    assert_close(var, moments(x, (0,)).var, 1e-8, "var")


def test_moments_of_no_elements() -> None:
    for mask in (None, torch.ones(0, 3, dtype=torch.bool)):
        mean, var, count = moments(torch.empty(0, 3), (0,), mask)
        for value in (mean, var):
            assert_equal(value, torch.zeros(1, 3))
        assert not count.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_single(dtype: torch.dtype) -> None:
    x = (100.0 + torch.randn(4096, 2)).to(dtype)
    got = moments(x, (0,), torch.ones(4096, 1, dtype=torch.bool))
    assert {moment.dtype for moment in got} == {torch.float32}
    exact = moments(x.double(), (0,))
    assert_close(got.mean, exact.mean.float(), SINGLE)
    assert_close(got.var, exact.var.float(), SINGLE)
    assert widen(x).dtype == torch.float32
    assert widen(x.double()).dtype == torch.float64


@pytest.mark.parametrize("counts", [(5, 3), (1, 1), (0, 4), (4, 0), (0, 0), (1, 7)])
def test_merge_is_the_moments_of_the_union(counts: tuple[int, int]) -> None:
    parts = [2.0 + 3.0 * torch.randn(n, 4).double() for n in counts]
    a, b = (moments(part, (0,)) for part in parts)
    mean, var = zip(
        *(oracle_moments.mean_and_variance(column) for column in torch.cat(parts).T.tolist())
    )
    joined = merge(a, b)
    assert_close(joined.mean, torch.tensor([mean], dtype=torch.float64), SUMS, "mean")
    assert_close(joined.var, torch.tensor([var], dtype=torch.float64), SUMS, "var")
    assert bool((joined.n == sum(counts)).all())


def test_merge_in_any_order() -> None:
    x = torch.randn(12, 2).double()
    whole = moments(x, (0,))
    pieces = [moments(part, (0,)) for part in x.split([1, 0, 4, 7])]
    for order in itertools.permutations(pieces):
        joined = order[0]
        for piece in order[1:]:
            joined = merge(joined, piece)
        for actual, expected in zip(joined, whole):
            assert_close(actual, expected, SUMS)


@pytest.mark.parametrize("which", ["none", "some", "empty sets"])
@pytest.mark.parametrize("along", [(0,), (1,), (0, 1)])
def test_pooled_moments_are_those_of_the_union(along: tuple[int, ...], which: str) -> None:
    x = 2.0 + torch.randn(SHAPE).double().requires_grad_()
    mask = None if which == "none" else torch.rand(SHAPE) < 0.6
    if mask is not None and which == "empty sets":
        mask[0] = False
        mask[1, 2] = False
    found = pooled(moments(x, (2,), mask), along)
    whole = torch.ones(SHAPE, dtype=torch.bool) if mask is None else mask
    expected = by_loops(x, (*along, 2), whole, True)
    for part, right in zip(found, expected):
        assert_close(part, right, VALUES)
    at_once = moments(x, (*along, 2), mask)
    weights = [torch.randn_like(right) for right in expected[:2]]
    grads = []
    for of in (found, at_once):
        loss = sum((part * weight).sum() for part, weight in zip(of[:2], weights))
        grads.append(torch.autograd.grad(loss, x, retain_graph=True)[0])
    assert_close(grads[0], grads[1], GRADIENTS)


@pytest.mark.parametrize("eps_on", ["var", "std"])
def test_normalise(eps_on: str) -> None:
    x, mean = torch.randn(6, 3).double(), torch.randn(3).double()
    var = torch.tensor([0.0, 0.3, 4.0]).double()
    got = normalise(x, mean, var, 1e-3, eps_on=eps_on)
    for n, f in itertools.product(range(6), range(3)):
        v = var[f].item()
        below = math.sqrt(v + 1e-3) if eps_on == "var" else math.sqrt(v) + 1e-3
        expected = (x[n, f].item() - mean[f].item()) / below
        assert abs(got[n, f].item() - expected) <= VALUES * max(1.0, abs(expected))


@pytest.mark.parametrize(("eps_on", "slope"), [("var", 1e-5**-0.5), ("std", 1e5)])
def test_derivative_at_variance_zero(eps_on: str, slope: float) -> None:
    """For equal elements it is d/dx of the deviation from the mean, over sqrt(eps)."""
    x = torch.full((4,), 0.7).double().requires_grad_()
    mean, var, _ = moments(x, (0,))
    y = normalise(x, mean, var, 1e-5, eps_on=eps_on)
    assert not y.detach().any()
    (gradient,) = torch.autograd.grad(y[0], x)
    expected = slope * torch.tensor([0.75, -0.25, -0.25, -0.25]).double()
    assert_close(gradient, expected, GRADIENTS)


@pytest.mark.parametrize("n", [0, 1, 2, 10])
def test_unbiased(n: int) -> None:
    x = torch.randn(n, 3).double()
    biased = moments(x, (0,))
    expected = x.var(0, keepdim=True) if n > 1 else torch.zeros(1, 3).double()
    assert_close(unbiased(biased.var, biased.n), expected, SUMS)


def normed(x: Tensor, dims: tuple[int, ...], centred: bool = True) -> Tensor:
    mean, var, _ = moments(x, dims, centred=centred)
    return normalise(x, mean, var, 1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group", "rms"])
def test_torch_norms(norm: str) -> None:
    """One function reproduces values and gradients of all five."""
    x = (0.5 + torch.randn(4, 6, 7).double()).requires_grad_()
    if norm == "batch":
        ours, theirs = normed(x, (0, 2)), F.batch_norm(x, None, None, training=True, eps=1e-5)
    elif norm == "layer":
        ours, theirs = normed(x, (1, 2)), F.layer_norm(x, (6, 7), eps=1e-5)
    elif norm == "instance":
        ours, theirs = normed(x, (2,)), F.instance_norm(x, eps=1e-5)
    elif norm == "group":
        ours = normed(x.unflatten(1, (3, 2)), (2, 3)).flatten(1, 2)
        theirs = F.group_norm(x, 3, eps=1e-5)
    else:
        ours, theirs = normed(x, (2,), centred=False), rms_norm(x, (7,))
    assert_close(ours, theirs, VALUES, norm)
    cotangent = torch.randn_like(ours)
    (expected,) = torch.autograd.grad(theirs, x, cotangent)
    (actual,) = torch.autograd.grad(ours, x, cotangent)
    assert_close(actual, expected, VALUES, norm)
