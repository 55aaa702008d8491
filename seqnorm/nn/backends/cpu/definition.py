"""What the kernels compute, one step at a time, differentiable to any order.

Axes: B sequences, N packed rows, H units.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...recurrence.scan import State, scan
from ...recurrence.zoneout import keep, steps
from ...statistics.moments import moments, normalise
from .plan import COLUMNS, STAYS, Inputs, Plan


def definition(plan: Plan, inputs: Inputs) -> tuple[Tensor, ...]:
    """What ``recurrence`` gives."""
    layout = plan.layout
    bias_i, bias_x, bias_h = (plan.added(place, inputs) for place in "ixh")
    hidden, ends = inputs.h_0.shape[1], layout.sets
    sizes = [(end - start) * hidden for start, end in zip((0, *ends), ends)]

    own: dict[str, list[tuple[Tensor, Tensor]]] = {term: [] for term in plan.own(inputs)}

    def norm(which: int, z: Tensor, gain: Tensor | None, bias: Tensor | None, t: int) -> Tensor:
        kind, given = layout.kinds[which], inputs[COLUMNS + which]
        if given is not None:
            z = (z - given[t, 0]) * given[t, 1]
        elif kind is not None:
            of_row = kind != "batch"
            pieces = []
            for part in z.split(sizes if which < 2 and of_row else [z.shape[1]], -1):
                mean, var, _ = moments(part, (-1,) if of_row else (0,), centred=kind != "rms")
                pieces.append(normalise(part, mean, var, layout.eps[which]))
                if not of_row:
                    own["xhc"[which]].append((mean, var))
            z = torch.cat(pieces, -1)
        z = z if gain is None else z * gain
        return z if bias is None else z + bias

    def step(x: Tensor, state: State, t: int) -> State:
        def site(name: str, z: Tensor) -> Tensor:
            if name == "sum" and layout.sum:
                return norm(1, z, inputs.gain_h, bias_h, t)
            return norm(2, z, inputs.gain_c, inputs.bias_c, t) if name == "cell" else z

        h = plan.cell.hidden_term(state[0], inputs.weight_hh, None)
        if not layout.sum:
            x, h = norm(0, x, inputs.gain_x, bias_x, t), norm(1, h, inputs.gain_h, bias_h, t)
        new = plan.cell.step(x, h, state, site, plan.scheme)
        return tuple(keep(*parts) for parts in zip(new, state, stays[t]))

    drawn = inputs[STAYS : STAYS + len(plan.zoneout)]
    stays = steps(
        [p if drawn_ is None else drawn_ != 0 for p, drawn_ in zip(plan.zoneout, drawn)], plan.sizes
    )
    x = inputs.input if inputs.weight_ih is None else F.linear(inputs.input, inputs.weight_ih)
    x = x if bias_i is None else x + bias_i
    state = (inputs.h_0,) if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    output, final = scan(step, x, plan.sizes, state)
    statistics: list[Tensor] = []
    for term, found in own.items():
        mean, var = (torch.cat(parts).detach() for parts in zip(*found))
        eps = layout.eps["xhc".index(term)]
        statistics += [torch.stack((mean, torch.rsqrt(var + eps)), 1), var]
    return (output, *final, *statistics)


def gradients(
    plan: Plan, inputs: Inputs, grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients of the inputs from those of the results, themselves differentiable."""
    with torch.enable_grad():
        # By other names: one input may come of another, as a state of the weights that it went
        # through before, and its share in their gradient is for autograd to add.
        inputs = Inputs._make(None if t is None else t.view_as(t) for t in inputs)
        values = definition(plan, inputs)
    # Nothing comes of a value that depends on nothing learned, as of a frozen direction.
    pairs = [(v, grad) for v, grad in zip(values, grads) if grad is not None and v.requires_grad]
    if not pairs:
        return [None] * len(needed)
    outputs, cotangents = zip(*pairs)
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    options: dict[str, Any] = {"create_graph": torch.is_grad_enabled(), "allow_unused": True}
    found = iter(torch.autograd.grad(outputs, wanted, cotangents, **options))
    return [next(found) if need else None for need in needed]
