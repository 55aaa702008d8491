"""Moments of a set S of elements that share a mean and a variance, the idea under every norm.

A norm chooses S by the axes to average over; everything else is shared. For sequences (N, T, C):

====================  ==================  =================================================
norm                  S                   axes averaged over
====================  ==================  =================================================
LayerNorm, RMSNorm    one frame           C
InstanceNorm          one sequence        T (valid steps), each channel apart
GroupNorm             one sequence        T (valid steps) and the channels of a group
BatchNorm, pooled     the mini-batch      N and T (valid frames)
BatchNorm, per step   the mini-batch      N (sequences still running at that step)
====================  ==================  =================================================

Running statistics exist if and only if S contains the batch axis. Only then does an output depend
on other examples, so that inference needs another source for the mean and the variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


class Moments(NamedTuple):
    """Mean, biased variance (divided by n) and number of elements n of every set.

    The mean and the variance have the shape of the input with length 1 at the averaged axes. So
    has n, except that it has length 1 at every axis without a mask. An empty set has mean 0 and
    variance 0.
    """

    mean: Tensor
    var: Tensor
    n: Tensor


def widen(x: Tensor) -> Tensor:
    """Convert half precision to float32, the lowest precision in which statistics are taken."""
    return x.float() if x.dtype in HALF else x


def moments(
    x: Tensor, dims: Sequence[int], mask: Tensor | None = None, *, centred: bool = True
) -> Moments:
    """Mean and biased variance over the axes ``dims`` of the elements where ``mask`` is true.

    Args:
        x: any floating-point tensor; half precision is averaged in float32.
        dims: the axes that span one set.
        mask: boolean, broadcastable to ``x``; ``None`` takes every element. Values where it is
            false, even NaN or infinity, affect neither the moments nor their gradients.
        centred: if false, return mean 0 and the mean square instead of the variance, the
            statistics of RMSNorm.
    """
    x = widen(x)
    dims = tuple(dims)
    if mask is None:
        count = x.new_full([1] * x.dim(), float(math.prod([x.shape[dim] for dim in dims])))
    else:
        mask = mask.expand(x.shape)
        # By `where`, for NaN times 0 is NaN, in the backward pass too.
        x = torch.where(mask, x, 0.0)
        count = mask.sum(dims, keepdim=True).to(x.dtype)
    divisor = count.clamp(min=1.0)
    if not centred:
        square = (x * x).sum(dims, keepdim=True) / divisor
        return Moments(torch.zeros_like(square), square, count)
    mean = x.sum(dims, keepdim=True) / divisor
    deviation = x - mean
    if mask is not None:
        deviation = torch.where(mask, deviation, 0.0)
    var = (deviation * deviation).sum(dims, keepdim=True) / divisor
    return Moments(mean, var, count)


def moments_of_sets(x: Tensor, number: Tensor, sets: int) -> Moments:
    """Mean and biased variance of sets of rows.

    Args:
        x: (N, F) or (N, F, C), of any floating-point dtype; half precision is averaged in float32.
            A set contains the C numbers at each place.
        number: (N,) the number of the set of each row.
        sets: the number of sets, of which some may be empty.

    Returns:
        Mean and variance (sets, F), and the number of rows (sets, 1).
    """
    x = widen(x)
    x = x[..., None] if x.dim() == 2 else x
    count = torch.bincount(number, minlength=sets)[:, None].to(x.dtype)
    divisor = count.clamp(min=1.0)

    def mean_of(rows: Tensor) -> Tensor:
        # One row after another is added to the same number, which float32 would round each time.
        total = rows.new_zeros(sets, rows.shape[1], dtype=torch.float64)
        return (total.index_add(0, number, rows.double()) / divisor).to(rows.dtype)

    mean = mean_of(x.mean(-1))
    deviation = x - mean.index_select(0, number)[..., None]
    return Moments(mean, mean_of((deviation * deviation).mean(-1)), count)


def units_of_part(part: float, units: int) -> int:
    """Return ceil(part * units), the number of units of partial RMSNorm."""
    return math.ceil(round(part * units, 9))  # 0.07 * 100 is more than 7


def normalise(x: Tensor, mean: Tensor, var: Tensor, eps: float, *, eps_on: str = "var") -> Tensor:
    """Subtract the mean and divide by ``sqrt(var + eps)``, or ``sqrt(var) + eps`` if eps_on="std".

    The result has the dtype of the statistics. At variance 0 the second form has its true
    derivative, 1/eps, although the derivative of the square root is infinite.
    """
    if eps_on == "var":
        return (x - mean) * torch.rsqrt(var + eps)
    positive = var > 0
    std = torch.where(positive, torch.where(positive, var, 1.0).sqrt(), 0.0)
    return (x - mean) / (std + eps)


def affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Multiply by the gain and add the bias, where they exist."""
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets (Chan, Golub & LeVeque 1979, eq. 2.1)."""
    count = a.n + b.n
    divisor = count.clamp(min=1.0)
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.n / divisor)
    var = (a.n * a.var + b.n * b.var + delta * delta * (a.n * b.n / divisor)) / divisor
    return Moments(mean, var, count)


def pooled(of: Moments, dims: Sequence[int]) -> Moments:
    """Moments of the union of the disjoint sets along the axes ``dims``, as ``merge`` has of two.

    With n_i, m_i, v_i of set i and N = sum_i n_i::

        mean = sum_i n_i m_i / N        var = sum_i n_i (v_i + (m_i - mean)^2) / N
    """
    dims = tuple(dims)
    n = of.n.expand(of.mean.shape)
    count = n.sum(dims, keepdim=True)
    part = n / count.clamp(min=1.0)
    mean = (part * of.mean).sum(dims, keepdim=True)
    # An empty set has mean 0, far from a large one: 0 times an infinite square is NaN.
    deviation = torch.where(n > 0, of.mean - mean, 0.0)
    var = (part * (of.var + deviation * deviation)).sum(dims, keepdim=True)
    return Moments(mean, var, count)


def moved(old: Tensor, new: Tensor, weight: Tensor) -> Tensor:
    """Compute ``(1 - weight) * old + weight * new``, as torch's running averages.

    ``lerp`` would turn an infinity, such as a variance beyond half precision, into NaN.
    """
    return torch.addcmul(new * weight, old, 1.0 - weight)


def unbiased(var: Tensor, count: Tensor) -> Tensor:
    """Return the variance divided by count - 1, given the one divided by count."""
    return var * (count / (count - 1.0).clamp(min=1.0))
