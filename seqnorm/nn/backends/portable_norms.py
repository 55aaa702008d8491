"""Norms of a recurrent layer in few of torch's own operators, for graphs of inference.

Axes: n rows, F features of a norm, S = max_steps of a table.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..recurrence.scheme import Norm
from ..recurrence.site_norms import BatchSiteNorm, FeatureNorm, SiteNorm, SitePass
from ..statistics.moments import affine, units_of_part, widen

Affine = tuple[Optional[Tensor], Optional[Tensor]]


class TablePass(SitePass):
    """A norm of the batch in inference, by the numbers (n, F) that hold at a step.

    Args:
        scale, shift: gain / deviation, and bias - mean * scale.
    """

    def __init__(self, site: SiteNorm, scale: Tensor, shift: Tensor) -> None:
        super().__init__(site)
        self._scale, self._shift = scale, shift

    def __call__(self, x: Tensor, t: int) -> Tensor:
        return (widen(x) * self._scale + self._shift).to(x.dtype)


class UnitsPass(SitePass):
    """LayerNorm and RMSNorm in few operations, by torch's own functions where they exist.

    Args:
        parts: gain and bias of each set, if the sets have different sizes.
    """

    _site: FeatureNorm

    def __init__(self, site: FeatureNorm, parts: list[Affine]) -> None:
        super().__init__(site)
        self._parts = parts

    def __call__(self, x: Tensor, t: int) -> Tensor:
        return self._normalised(x, 2)

    def whole(self, rows: Tensor) -> Tensor:
        # A step divides its sets once more, but all steps together remain one tensor. One gain and
        # one bias of all sets are then fewer operations.
        return self._normalised(rows, _taken(self._site.norm))

    def _normalised(self, x: Tensor, apart: int) -> Tensor:
        """Normalise rows (..., F).

        Args:
            apart: how many of gain and bias, in this order, each set of another size applies alone.
        """
        site, wide = self._site, widen(x)
        sizes, own = site.sizes, (site.weight, site.bias)
        if len(sizes) == 1:
            y = _normalise(wide, site.norm, *own)
        elif not self._parts:
            y = _normalise(wide.unflatten(-1, (len(sizes), sizes[0])), site.norm, None, None)
            y = affine(y.flatten(-2), *own)
        else:
            each = [(*part[:apart], *(None,) * (2 - apart)) for part in self._parts]
            parts = zip(wide.split(sizes, -1), each)
            y = torch.cat([_normalise(part, site.norm, *given) for part, given in parts], -1)
            y = affine(y, *(None,) * apart, *own[apart:])
        return y.to(x.dtype)


def _taken(norm: Norm) -> int:
    """Return how many of gain and bias, in this order, torch's own function of a norm takes."""
    if norm.eps_on != "var":
        return 0
    return 2 if norm.kind == "layer" else int(norm.part is None)


def _normalise(x: Tensor, norm: Norm, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Normalise sets (..., units) of equal size."""
    units, taken = x.shape[-1:], _taken(norm)
    weight, bias = (None if t is None else widen(t) for t in (weight, bias))
    if taken == 2:
        return F.layer_norm(x, units, weight, bias, norm.eps)
    if taken == 1:
        return affine(F.rms_norm(x, units, weight, norm.eps), None, bias)
    seen = x if norm.part is None else x[..., : units_of_part(norm.part, units[0])]
    if norm.kind == "layer":
        x = seen = x - x.mean(-1, keepdim=True)
    if norm.eps_on == "var":
        square = (seen * seen).mean(-1, keepdim=True)
        return affine(x * torch.rsqrt(square + norm.eps), weight, bias)
    # x / (length / root + eps), with the root in two constants.
    root = math.sqrt(seen.shape[-1])
    length = torch.linalg.vector_norm(seen, dim=-1, keepdim=True)
    gain = x.new_full((), root) if weight is None else weight * root
    return affine(x / (length + norm.eps * root), gain, bias)


def parts_of(norm: FeatureNorm) -> list[Affine]:
    """Return gain and bias of each set of a norm, if the sets have different sizes."""
    if len(set(norm.sizes)) < 2:
        return []
    # Copies, because an operator's arguments may not share memory.
    ends = list(accumulate(norm.sizes))
    found = [
        [None] * len(ends)
        if t is None
        else [t[e - n : e].clone() for e, n in zip(ends, norm.sizes)]
        for t in (norm.weight, norm.bias)
    ]
    return list(zip(*found))


def table_of(site: BatchSiteNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift (S, F) of each step, see ``TablePass``."""
    table, norm = site.table, site.norm
    # The last step with statistics up to each one, in log2(S) maxima. ONNX has no cummax.
    own = torch.arange(table.max_steps, device=table.count.device)
    source, distance = torch.where(table.count > 0, own, 0), 1
    while distance < table.max_steps:
        source = torch.maximum(source, F.pad(source[:-distance], (distance, 0)))
        distance *= 2
    mean, var = (t.index_select(0, source) for t in (table.running_mean, table.running_var))
    scale = torch.rsqrt(var + norm.eps) if norm.eps_on == "var" else 1.0 / (var.sqrt() + norm.eps)
    scale = affine(scale, site.weight, None)
    return scale, affine(-mean * scale, None, site.bias)
