"""The work around the kernels: the terms before a recurrence, and the norms after it.

Axes: B sequences, N packed rows, I inputs, H units, P = size of h, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ...recurrence.direction import DirectionCall
from ...recurrence.site_norms import BatchPass, SitePass, SiteRun
from ...recurrence.step import State
from ...recurrence.zoneout import draw
from ..reference import input_term
from ..watching import is_traced, refuse_freed
from . import kernels
from .batch import in_parts, pooled_columns
from .call import Call, Inputs
from .half import widened
from .operators import Engine, recurrence, recurrences
from .plan import Plan
from .states import apart, joined
from .traced import recurrence as traced_recurrence

_NONE = (None, None)


class Work(NamedTuple):
    """One direction during one pass, with the work around the kernels.

    Attributes:
        norms: the norms that the kernels do not compute by themselves, if there are any.
        batch: passes of the norms of x, h and c, if the kernels compute norms of a step's rows.
        pooled: pass of the norm of x, if the kernels compute one over time.
        traced: true if an operator of torch.library computes the pass.
        told: (T,) the sizes of the call for that operator, where they are symbols.
    """

    call: Call
    inputs: Inputs
    norms: SiteRun | None
    batch: list[SitePass | None]
    pooled: BatchPass | None
    traced: bool
    told: Tensor | None


def start(this: DirectionCall, plan: Plan, half: torch.dtype | None, hoisted: bool) -> Work:
    """Compute the terms before the recurrence, and collect the tensors for the kernels.

    Args:
        half: the dtype of products, if it is another one.
        hoisted: true if the whole term of the input is computed here.
    """
    direction, rows, packing, state = this
    traced = is_traced((rows, *state, *direction.tensors))
    if traced:  # elsewhere ``claims`` has checked that every tensor is plain
        refuse_freed((rows, *state, *direction.tensors))
    norms: SiteRun | None = None
    if hoisted or plan.outside or direction.over_batch:
        # Norms of a row need no numbers of rows, which would fix the lengths of a graph.
        norms = direction.start(packing.batch_sizes if direction.over_batch else [], packing.first)
    weight_ih: Tensor | None = direction.weight_ih
    if norms is not None and hoisted:
        rows, weight_ih = input_term(direction.in_floats(), norms, rows), None
    elif norms is not None:
        rows = norms.whole("frame", rows)
    x, h, c = plan.sites
    gain_x, bias_x = direction.affine.get(x, _NONE)
    gain_h, bias_h = direction.affine.get(h, _NONE)
    gain_c, bias_c = direction.affine.get(c, _NONE)
    zoneout = direction.zoneout
    stays: list[Tensor | None] = [None, None]
    if any(zoneout):
        drawn = draw(zoneout, direction.training, rows.shape[0], state)
        zoneout = tuple([0.0 if isinstance(stay, Tensor) else stay for stay in drawn])
        for number, stay in enumerate(drawn):
            if isinstance(stay, Tensor):
                stays[number] = stay.to(rows.dtype)
    if plan.states < len(state):
        state, zoneout = joined(state), zoneout[: plan.states]
    columns_x: Tensor | None = None
    pooled: BatchPass | None = None
    if norms is not None and plan.pooled:
        of_input = norms.of(x)
        assert isinstance(of_input, BatchPass)
        computed_in = torch.float32 if rows.dtype == torch.bfloat16 else rows.dtype
        pooled, columns_x = of_input, pooled_columns(of_input, computed_in, plan.eps[0])
    bias_ih = direction.bias_ih if plan.places[0] and weight_ih is not None else None
    bias_hh = direction.bias_hh if plan.places[1] else None
    inputs = Inputs(
        *(rows, weight_ih, direction.weight_hh, state[0], state[1] if len(state) > 1 else None),
        *(gain_x, gain_h, gain_c, bias_c, columns_x, *_NONE, *_NONE, None, stays[0], stays[1]),
        *(bias_ih, bias_hh, bias_x, bias_h, direction.weight_hr),
    )
    # In a graph of a layer without norms of the batch, a tensor holds the numbers of rows.
    told = packing.sizes(rows) if traced and not plan.batch else None
    inputs = inputs if half is None else widened(inputs)
    sizes = packing.batch_sizes if told is None else []
    call = Call(plan, sizes, zoneout, half, tuple(direction.scales.items()))
    batch = [norms.of(site) for site in plan.sites] if norms is not None and plan.batch else []
    return Work(call, inputs, norms, batch, pooled, traced, told)


def alone(one: Work, engine: Engine = kernels) -> tuple[Tensor, ...]:
    """Compute the recurrence of one direction by itself."""
    if one.batch:
        call = traced_recurrence if one.traced else partial(recurrence, engine=engine)
        return in_parts(one.call, one.inputs, one.batch, call)
    if one.traced:
        return traced_recurrence(one.call, one.inputs, one.told)
    return recurrences([(one.call, one.inputs)], engine)[0]


def finish(
    calls: Sequence[DirectionCall], works: Sequence[Work], results: Sequence[tuple[Tensor, ...]]
) -> list[tuple[Tensor, State]]:
    """Compute the norms after the recurrence, and return the output and the final state."""
    found = []
    for call, one, (output, *state) in zip(calls, works, results):
        if one.pooled is not None and one.inputs.columns_x is None:
            *state, columns, var = state
            one.pooled.gather(columns[:, 0], var)
        if one.call.half is not None:  # the results have the dtypes of the initial state
            dtypes = [part.dtype for part in call[-1]]
            output = output.to(dtypes[0])
            state = [part.to(dtype) for part, dtype in zip(state, dtypes)]
        final: State = tuple(state)
        if one.call.plan.step.heads:  # the kernels join parts of its state
            final = apart(final, one.call.plan.step)
        if one.norms is not None:
            output = one.norms.whole("output", output)
            one.norms.close()
        found.append((output, final))
    return found
