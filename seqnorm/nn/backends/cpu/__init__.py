"""Compiled loops for the CPU: normalised layers about as fast as torch's plain ones.

Axes: B sequences, N packed rows, I inputs, H units, P = size of h, G gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...check import warn
from ...recurrence.direction import Direction, DirectionCall
from ...recurrence.packing import Packing
from ...recurrence.site_norms import BatchPass, SitePass, SiteRun
from ...recurrence.step import State
from ...recurrence.zoneout import draw
from ..reference import input_term
from ..watching import (
    all_plain,
    all_traceable,
    counts_operations,
    is_forward_mode,
    is_traced,
    is_transformed,
    refuse_freed,
    tracing_state,
)
from .batch import in_parts, pooled_columns
from .call import Call, Inputs
from .half import in_half, refusal, widened
from .int8 import most_rows
from .library import LIBRARY, STEPS, TOGETHER, WHY_NOT, describe
from .operators import recurrence, recurrences
from .plan import Plan, plan_of
from .states import apart, joined
from .traced import COMPILES
from .traced import recurrence as traced_recurrence

_warned: list[str] = []
_NONE = (None, None)


def status() -> tuple[bool, str]:
    """Return whether the kernels exist, and their instruction set or why they do not."""
    return LIBRARY is not None, WHY_NOT or describe()


def claims(direction: Direction, rows: Tensor, packing: Packing, state: State) -> str | None:
    """Return ``None`` for a call that the kernels can compute, or the reason why they cannot."""
    if tracing_state() is not None:
        return "torch.jit.trace does not see what its kernels do"
    if not COMPILES and torch.compiler.is_compiling():
        return "under torch.compile and torch.export its kernels need torch 2.4"
    if rows.device.type != "cpu":
        return f"its kernels are for the CPU, and the input is on {rows.device}"
    if is_forward_mode():
        return "its kernels have no forward-mode derivatives"
    given = (*direction.tensors, rows, *state)
    traced = is_traced(given)
    if traced and counts_operations():
        return "its kernels do not say how many operations they are"
    known = all_traceable if traced else all_plain
    if is_transformed() or not known(given):
        return "its kernels take only plain tensors, no subclasses and none inside torch.func"
    mixed = refusal(direction, rows, given)
    if mixed is not None:
        return mixed
    if traced and in_half(rows):
        return "its kernels do not compute in bfloat16 in graphs and under tools that watch a call"
    if direction.scales and (traced or _learns(given)):
        return "its kernels take weights of int8 only under torch.no_grad(), and not in graphs"
    if packing.totals is not None:
        return "its kernels take the statistics of one process, and here several share theirs"
    if packing.empty:
        return "no rows"
    if direction.step.name not in STEPS:
        return f"it has no kernel for the {direction.step.name}"
    plan = plan_of(direction)
    reason = plan.reason
    if reason is None and LIBRARY is None:
        if direction.norms and not _warned and not torch.compiler.is_compiling():
            _warned.append(WHY_NOT)
            warn(f"normalised layers are slow here, because backend 'cpu' is absent: {WHY_NOT}")
        return WHY_NOT
    return reason


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Compute packed outputs and final state from packed inputs (N, I) and state (B, P), (B, H)."""
    return run_layer([(direction, rows, packing, state)])[0]


def run_layer(calls: Sequence[DirectionCall]) -> list[tuple[Tensor, State]]:
    """Run all directions of a layer, concurrently where possible."""
    passes = []
    for call in calls:
        passes.append(_start(*call))
    if len(passes) == TOGETHER and _are_alike(passes):
        results = recurrences([(one.call, one.inputs) for one in passes])
    else:
        results = []
        for one in passes:
            results.append(_alone(one))
    found = []
    for call, one, (output, *state) in zip(calls, passes, results):
        if one.pooled is not None and one.inputs.columns_x is None:
            *state, columns, var = state
            one.pooled.gather(columns[:, 0], var)
        if one.call.half:  # the results have the dtypes of the initial state
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


class _Pass(NamedTuple):
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


def _start(direction: Direction, rows: Tensor, packing: Packing, state: State) -> _Pass:
    """Compute the terms before the recurrence, and collect the tensors for the kernels."""
    plan: Plan = direction.plans["cpu"]  # made by ``claims``
    if direction.scales and len(rows) > most_rows(direction):
        direction = direction.in_floats()
    traced = is_traced((rows, *state, *direction.tensors))
    if traced:  # elsewhere ``claims`` has checked that every tensor is plain
        refuse_freed((rows, *state, *direction.tensors))
    half = in_half(rows)
    norms: SiteRun | None = None
    if plan.outside or direction.over_batch:
        # Norms of a row need no numbers of rows, which would fix the lengths of a graph.
        norms = direction.start(packing.batch_sizes if direction.over_batch else [], packing.first)
    weight_ih: Tensor | None = direction.weight_ih
    if norms is not None and plan.hoisted:
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
    bias_ih = direction.bias_ih if plan.places[0] else None
    bias_hh = direction.bias_hh if plan.places[1] else None
    inputs = Inputs(
        *(rows, weight_ih, direction.weight_hh, state[0], state[1] if len(state) > 1 else None),
        *(gain_x, gain_h, gain_c, bias_c, columns_x, *_NONE, *_NONE, None, stays[0], stays[1]),
        *(bias_ih, bias_hh, bias_x, bias_h, direction.weight_hr),
    )
    # In a graph of a layer without norms of the batch, a tensor holds the numbers of rows.
    told = packing.sizes(rows) if traced and not plan.batch else None
    inputs = widened(inputs) if half else inputs
    sizes = packing.batch_sizes if told is None else []
    call = Call(plan, sizes, zoneout, half, tuple(direction.scales.items()))
    batch = [norms.of(site) for site in plan.sites] if norms is not None and plan.batch else []
    return _Pass(call, inputs, norms, batch, pooled, traced, told)


def _learns(tensors: Iterable[Tensor]) -> bool:
    """Return whether a call on these tensors records gradients."""
    return torch.is_grad_enabled() and any([tensor.requires_grad for tensor in tensors])


def _are_alike(passes: Sequence[_Pass]) -> bool:
    """Return whether the kernels can compute these passes in one call."""
    if any([one.traced or any([isinstance(p, BatchPass) for p in one.batch]) for one in passes]):
        return False
    learns = [
        any([tensor is not None and tensor.requires_grad for tensor in one.inputs])
        for one in passes
    ]
    return all(learns) or not any(learns)


def _alone(one: _Pass) -> tuple[Tensor, ...]:
    """Compute the recurrence of one direction by itself."""
    if one.batch:
        call = traced_recurrence if one.traced else recurrence
        return in_parts(one.call, one.inputs, one.batch, call)
    if one.traced:
        return traced_recurrence(one.call, one.inputs, one.told)
    return recurrence(one.call, one.inputs)
