"""Compiled loops for the CPU: normalised layers about as fast as torch's plain ones.

Axes: B sequences, N packed rows, I inputs, H units, P = size of h, G gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...check import warn
from ...recurrence.direction import Direction, DirectionCall
from ...recurrence.packing import Packing
from ...recurrence.site_norms import BatchPass
from ...recurrence.step import State
from ..watching import (
    all_plain,
    all_traceable,
    counts_operations,
    is_forward_mode,
    is_traced,
    is_transformed,
    tracing_state,
)
from .around import Work, alone, finish, start
from .half import in_half, refusal
from .int8 import most_rows
from .library import LIBRARY, STEPS, TOGETHER, WHY_NOT, describe
from .operators import recurrences
from .plan import Plan, plan_of
from .traced import COMPILES

_warned: list[str] = []


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
    works = []
    for call in calls:
        direction, rows, packing, state = call
        plan: Plan = direction.plans["cpu"]  # made by ``claims``
        if direction.scales and len(rows) > most_rows(direction):
            call = direction.in_floats(), rows, packing, state
        half = torch.bfloat16 if in_half(rows) else None
        works.append(start(call, plan, half, plan.hoisted))
    if len(works) == TOGETHER and _are_alike(works):
        results = recurrences([(one.call, one.inputs) for one in works])
    else:
        results = []
        for one in works:
            results.append(alone(one))
    return finish(calls, works, results)


def _learns(tensors: Iterable[Tensor]) -> bool:
    """Return whether a call on these tensors records gradients."""
    return torch.is_grad_enabled() and any([tensor.requires_grad for tensor in tensors])


def _are_alike(works: Sequence[Work]) -> bool:
    """Return whether the kernels can compute these passes in one call."""
    if any([one.traced or any([isinstance(p, BatchPass) for p in one.batch]) for one in works]):
        return False
    learns = [
        any([tensor is not None and tensor.requires_grad for tensor in one.inputs]) for one in works
    ]
    return all(learns) or not any(learns)
