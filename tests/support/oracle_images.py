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
