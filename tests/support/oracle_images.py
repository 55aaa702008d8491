"""Float64 definition of the norms of images: one element, one set at a time, without seqnorm.

A norm is given by the set to which each element belongs, a function of its indices. Everything is
differentiable, so that gradients can be compared as well.

Axes: N examples, C channels, then the positions' indices p.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

# Returns the set of the element of example n, channel c, position p.
Key = Callable[[int, int, tuple[int, ...]], Hashable]
# Returns gain or bias of channel c of example n.
Scale = Callable[[int, int], Any]


def indices(x: Tensor) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(size) for size in x.shape)))


def statistics(x: Tensor, mask: Tensor, key: Key) -> dict[Hashable, tuple[Tensor, Tensor, int]]:
    """Return mean, biased variance and number of elements of every set; mask (N, *positions)."""
    sets: dict[Hashable, list[Tensor]] = {}
    for n, c, *p in indices(x):
        if mask[(n, *p)]:
            sets.setdefault(key(n, c, tuple(p)), []).append(x[(n, c, *p)])
    found = {}
    for name, values in sets.items():
        mean = sum(values) / len(values)
        found[name] = (
            mean,
            sum((value - mean) ** 2 for value in values) / len(values),
            len(values),
        )
    return found


def normalised(x: Tensor, mask: Tensor, key: Key, eps: float, gain: Scale, bias: Scale) -> Tensor:
    """Return ``gain * (x - mean) / sqrt(var + eps) + bias`` for valid elements, 0 elsewhere."""
    of = statistics(x, mask, key)
    out = []
    for n, c, *p in indices(x):
        if mask[(n, *p)]:
            mean, var, _ = of[key(n, c, tuple(p))]
            out.append(gain(n, c) * (x[(n, c, *p)] - mean) / torch.sqrt(var + eps) + bias(n, c))
        else:
            out.append(x.new_zeros(()))
    return torch.stack(out).reshape(x.shape)


# Returns mean and biased variance for channel c of every element of a batch.
OfChannel = Callable[[int], tuple[Any, Any]]


def of_batch(x: Tensor, mask: Tensor) -> OfChannel:
    """Return the statistics of one channel of the batch."""
    found = statistics(x, mask, lambda n, c, p: c)
    return lambda c: found[c][:2]


def batch_instance(
    x: Tensor,
    mask: Tensor,
    eps: float,
    rho: Callable[[int], Any],
    gain: Scale,
    bias: Scale,
    batch: OfChannel,
) -> Tensor:
    """Return ``gain * (rho * batch-normalised + (1 - rho) * instance-normalised) + bias``.

    Args:
        rho: the share of channel c, within [0, 1].
        batch: the statistics that stand for those of the batch.
    """
    own = statistics(x, mask, lambda n, c, p: (n, c))
    out = []
    for n, c, *p in indices(x):
        if mask[(n, *p)]:
            value, parts = x[(n, c, *p)], []
            for mean, var in (batch(c), own[n, c][:2]):
                parts.append((value - mean) / torch.sqrt(var + eps))
            mixed = rho(c) * parts[0] + (1 - rho(c)) * parts[1]
            out.append(gain(n, c) * mixed + bias(n, c))
        else:
            out.append(x.new_zeros(()))
    return torch.stack(out).reshape(x.shape)


def switchable(
    x: Tensor,
    mask: Tensor,
    eps: float,
    of_mean: Tensor,
    of_var: Tensor,
    gain: Scale,
    bias: Scale,
    batch: OfChannel,
) -> Tensor:
    """Return x normalised by mixed means and variances, in the order instance, layer, batch.

    Args:
        of_mean, of_var: (3,), whose exponentials are in proportion to the shares.
        batch: the statistics that stand for those of the batch.
    """
    instance = statistics(x, mask, lambda n, c, p: (n, c))
    layer = statistics(x, mask, lambda n, c, p: n)
    a, b = (torch.exp(of) / sum(torch.exp(one) for one in of) for of in (of_mean, of_var))
    out = []
    for n, c, *p in indices(x):
        if mask[(n, *p)]:
            sets = (instance[n, c], layer[n], batch(c))
            mean = sum(a[k] * sets[k][0] for k in range(3))
            var = sum(b[k] * sets[k][1] for k in range(3))
            y = (x[(n, c, *p)] - mean) / torch.sqrt(var + eps)
            out.append(gain(n, c) * y + bias(n, c))
        else:
            out.append(x.new_zeros(()))
    return torch.stack(out).reshape(x.shape)
