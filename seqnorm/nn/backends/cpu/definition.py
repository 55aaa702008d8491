"""The definition of the kernels: the reference on the tensors of a call.

Axes: B sequences, N packed rows, n rows alive at a step, H units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...recurrence.direction import Direction
from ...recurrence.scheme import Norm
from ...recurrence.site_norms import SitePass, SiteRun, normalise_units
from ...recurrence.zoneout import steps
from ...statistics.moments import affine, moments, normalise
from ..reference import input_term, unroll
from .call import BEFORE, COLUMNS, STAYS, Call, Inputs
from .half import nearest, rounding
from .states import apart, joined


@dataclass
class _KernelNorm(SitePass):
    """A norm of the recurrence with its parameters and, for norms of the batch, its statistics.

    Attributes:
        own: the columns and the variance (1, F) of each step, if they are computed from the rows.
    """

    norm: Norm
    units: tuple[int, ...]
    sizes: list[int]
    gain: Tensor | None
    bias: Tensor | None
    columns: Tensor | None
    before: Tensor | None
    own: list[tuple[Tensor, ...]] = field(init=False, default_factory=list)

    def __call__(self, x: Tensor, t: int) -> Tensor:
        if not self.norm.over_batch:
            return normalise_units(x, self.norm, self.units, self.gain, self.bias)
        if self.columns is not None:
            y = (x - self.columns[t, 0]) * self.columns[t, 1]
        else:
            mean, var, _ = moments(x, (0,))
            y = normalise(x, mean, var, self.norm.eps)
            scale = torch.rsqrt(var + self.norm.eps).detach()
            columns: tuple[Tensor, ...] = (mean.detach(), scale)
            if self.before is not None:
                running, known, most_r, most_d = self.before[t].unbind()
                r = (known / scale).clamp(most_r.reciprocal(), most_r)
                d = ((columns[0] - running) * known).clamp(-most_d, most_d)
                y = y * r + d
                columns = (columns[0] - d / (scale * r), scale * r, d, r)
            self.own.append((*columns, var.detach()))
        return affine(y, self.gain, self.bias)

    def whole(self, rows: Tensor) -> Tensor:
        if not self.norm.over_batch or self.norm.over_time:
            return self(rows, 0)
        return torch.cat([self(x, t) for t, x in enumerate(rows.split(self.sizes))])


def definition(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the results of ``operators.recurrence``, differentiable to any order."""
    plan, sizes = call.plan, call.sizes
    step, scheme = plan.step, plan.scheme
    if call.half is not None:
        step = rounding(step, call.half)
    gains = (inputs.gain_x, inputs.gain_h, inputs.gain_c)
    biases = (inputs.bias_2, inputs.bias_3, inputs.bias_c)
    spans = {} if scheme is None else step.spans(scheme)
    norms: dict[str, _KernelNorm] = {}
    columns, before = inputs[COLUMNS:BEFORE], inputs[BEFORE:STAYS]
    for site, *given in zip(plan.sites, gains, biases, columns, before):
        if site and scheme is not None:
            norm = plan.norm_at(site)
            units = norm.sizes(step.gates, spans[site], plan.hidden_size, step.heads)
            norms[site] = _KernelNorm(norm, units, sizes, *given)
    run = SiteRun({**norms})
    weight_ih, rows = inputs.weight_ih, inputs.input
    if call.half is not None and weight_ih is not None:
        weight_ih, rows = nearest(weight_ih, call.half), nearest(rows, call.half)
    w_ih = rows if weight_ih is None else weight_ih
    weights = w_ih, inputs.weight_hh, inputs.bias_0, inputs.bias_1, inputs.weight_hr
    options: dict[str, Any] = {"own": {}, "norms": {}, "training": False, "zoneout": call.zoneout}
    direction = Direction(step, scheme, *weights, **options)
    drawn = inputs[STAYS : STAYS + len(call.zoneout)]
    held = [p if stay is None else stay != 0 for p, stay in zip(call.zoneout, drawn)]
    x = rows if weight_ih is None else input_term(direction, run, rows)
    state = apart((inputs.h_0,) if inputs.c_0 is None else (inputs.h_0, inputs.c_0), step)
    held += [0.0] * (len(state) - len(held))
    output, final = unroll(direction, run, x, sizes, state, steps(held, sizes))
    statistics: list[Tensor] = []
    for site in plan.sites:
        if site and norms[site].own:
            *found, var = (torch.cat(parts) for parts in zip(*norms[site].own))
            statistics += [torch.stack(found, 1), var]
    return (output, *joined(final), *statistics)


def gradients(
    call: Call, inputs: Inputs, grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Return differentiable gradients of the inputs from gradients of the results."""
    # The rounding of the kernels replaces autocast's, which may be on during a backward pass.
    with torch.autocast("cpu", enabled=False):
        return _gradients(call, inputs, grads, needed)


def _gradients(
    call: Call, inputs: Inputs, grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    with torch.enable_grad():
        # Views, because one input may be computed from another, as a state from the weights of an
        # earlier call. Autograd adds that share of the gradient elsewhere.
        inputs = Inputs._make([None if t is None else t.view_as(t) for t in inputs])
        values = definition(call, inputs)
    # Values of a frozen direction have no gradient.
    pairs = [(v, grad) for v, grad in zip(values, grads) if grad is not None and v.requires_grad]
    if not pairs:
        return [None] * len(needed)
    outputs, cotangents = zip(*pairs)
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    options: dict[str, Any] = {"create_graph": torch.is_grad_enabled(), "allow_unused": True}
    found = iter(torch.autograd.grad(outputs, wanted, cotangents, **options))
    return [next(found) if need else None for need in needed]
