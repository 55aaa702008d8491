"""Compiled loops for the CPU: normalised LSTM and GRU about as fast as torch's plain layers.

What it does not take goes on to the next backend, with the reason.

Axes: B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...autocast import is_autocast
from ...check import warn
from ...recurrence.direction import Direction
from ...recurrence.packing import Packing
from ...recurrence.scan import State
from ...recurrence.site_norms import BatchPass, SitePass, SiteRun
from ...recurrence.zoneout import draw
from ..reference import input_term
from ..watching import (
    counts_operations,
    is_forward_mode,
    is_plain,
    is_traceable,
    is_traced,
    is_transformed,
    refuse_freed,
)
from .batch import in_parts
from .layout import Layout, layout
from .library import CELLS, LIBRARY, TOGETHER, WHY_NOT, describe
from .operators import recurrence, recurrences
from .plan import Inputs, Plan
from .traced import COMPILES
from .traced import recurrence as traced_recurrence

_warned: list[str] = []


def status() -> tuple[bool, str]:
    """Whether it is there, and with what, or why not."""
    return LIBRARY is not None, WHY_NOT or describe()


def claims(direction: Direction, rows: Tensor, packing: Packing, state: State) -> str | None:
    """Cells, norms and calls that the kernels know."""
    if torch._C._get_tracing_state() is not None:
        return "its kernels do what torch.jit.trace does not see"
    if not COMPILES and torch.compiler.is_compiling():
        return "under torch.compile and torch.export its kernels need torch 2.4"
    if rows.device.type != "cpu":
        return f"its kernels are for the CPU, and the input is on {rows.device}"
    if rows.dtype not in (torch.float32, torch.float64) or is_autocast("cpu"):
        return "its kernels compute in float32 and float64 alone"
    if is_forward_mode():
        return "its kernels know no forward-mode derivatives"
    given = (*direction.tensors(), rows, *state)
    traced = is_traced(given)
    if traced and counts_operations():
        return "its kernels do not say how many operations they are"
    known = is_traceable if traced else is_plain
    if is_transformed() or not all(known(tensor) for tensor in given):
        return "its kernels take plain tensors alone, no subclasses and none inside torch.func"
    for tensor in given:
        if tensor.dtype != rows.dtype or not tensor.is_cpu:
            return "its kernels take input, weights and states of one dtype, on the CPU"
    if direction.weight_hr is not None:
        return "it has no kernel with a projection (proj_size)"
    if packing.totals is not None:
        return "its kernels take the statistics of one process, and here several share theirs"
    if packing.empty:
        return "no rows"
    if direction.cell.name not in CELLS:
        return f"it has no kernel for the {direction.cell.name}"
    reason = layout(direction.cell, direction.scheme, direction.weight_hh.shape[1]).reason
    if reason is None and LIBRARY is None:
        if direction.sites and not _warned and not torch.compiler.is_compiling():
            _warned.append(WHY_NOT)
            warn(f"normalised layers are slow here, for backend 'cpu' is absent: {WHY_NOT}")
        return WHY_NOT
    return reason


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Packed inputs (N, I) and initial state (B, H), (B, H) to packed outputs and final state."""
    return run_layer([(direction, rows, packing, state)])[0]


def run_layer(
    calls: Sequence[tuple[Direction, Tensor, Packing, State]],
) -> list[tuple[Tensor, State]]:
    """The same for each direction of a layer, at the same time where nothing speaks against it."""
    starts = [_norms(direction, packing) for direction, _, packing, _ in calls]
    batch = any(isinstance(norm, BatchPass) for *_, passes in starts for norm in passes)
    if is_traced(()):  # elsewhere every tensor was found to be plain
        for direction, rows, _, state in calls:
            refuse_freed((rows, *state, *direction.tensors()))
    started = [_start(*call, *start) for call, start in zip(calls, starts)]
    apart = batch or any(one.traced for one in started) or len({one.learns for one in started}) > 1
    if len(started) == TOGETHER and not apart:
        results = recurrences(*((one.plan, one.inputs) for one in started))
    else:
        results = [_alone(one) for one in started]
    return [_end(one, result) for one, result in zip(started, results)]


class _Pass(NamedTuple):
    """One direction during one pass, around what the kernels do.

    Attributes:
        passes: of the norms of x, h and c.
        traced: whether it is to be an operator of torch.library.
        told: (T,) the plan's sizes for that, where they are no numbers.
    """

    plan: Plan
    inputs: Inputs
    norms: SiteRun
    passes: list[SitePass | None]
    traced: bool
    told: Tensor | None

    @property
    def learns(self) -> bool:
        """Whether anything of it needs a gradient."""
        return any(tensor is not None and tensor.requires_grad for tensor in self.inputs)


def _norms(direction: Direction, packing: Packing) -> tuple[Layout, SiteRun, list[SitePass | None]]:
    # Norms of a row ask for no numbers of rows, which would fix the lengths of a graph.
    over_batch = any(norm.norm.over_batch for norm in direction.sites.values())
    norms = direction.start(packing.batch_sizes if over_batch else [], packing.first)
    found = layout(direction.cell, direction.scheme, direction.weight_hh.shape[1])
    return found, norms, [norms.of(site) for site in found.sites]


def _start(
    direction: Direction,
    rows: Tensor,
    packing: Packing,
    state: State,
    found: Layout,
    norms: SiteRun,
    passes: list[SitePass | None],
) -> _Pass:
    """What comes before the recurrence."""
    weight_ih: Tensor | None = direction.weight_ih
    if found.hoisted:
        rows, weight_ih = input_term(direction, norms, rows), None
    else:
        rows = norms.whole("frame", rows)
    of_x, of_h, of_c = (direction.sites.get(site) for site in found.sites)
    biases = (
        direction.bias_ih,
        direction.bias_hh,
        None if of_x is None else of_x.bias,
        None if of_h is None else of_h.bias,
    )
    stays = draw(direction.zoneout, direction.training, rows.shape[0], state)
    drawn = [stay.to(rows.dtype) if isinstance(stay, Tensor) else None for stay in stays]
    inputs = Inputs(
        input=rows,
        weight_ih=weight_ih,
        weight_hh=direction.weight_hh,
        h_0=state[0],
        c_0=state[1] if len(state) > 1 else None,
        gain_x=None if of_x is None else of_x.weight,
        gain_h=None if of_h is None else of_h.weight,
        gain_c=None if of_c is None else of_c.weight,
        bias_c=None if of_c is None else of_c.bias,
        columns_x=None,
        columns_h=None,
        columns_c=None,
        stay_h=drawn[0],
        stay_c=drawn[1] if len(drawn) > 1 else None,
        **{f"bias_{k}": bias for k, bias in enumerate(biases) if found.places[k]},
    )
    probabilities = tuple(0.0 if isinstance(stay, Tensor) else stay for stay in stays)
    traced = is_traced(inputs)
    # A graph of layers without norms of the batch is told its numbers of rows by a tensor.
    told = packing.sizes(rows) if traced and not found.batch else None
    sizes = packing.batch_sizes if told is None else []
    plan = Plan(direction.cell, direction.scheme, found, sizes, probabilities)
    return _Pass(plan, inputs, norms, passes, traced, told)


def _alone(one: _Pass) -> tuple[Tensor, ...]:
    """The recurrence of one direction by itself."""
    if one.plan.layout.batch:
        call = traced_recurrence if one.traced else recurrence
        return in_parts(one.plan, one.inputs, one.passes, call)
    if one.traced:
        return traced_recurrence(one.plan, one.inputs, one.told)
    return recurrence(one.plan, one.inputs)


def _end(one: _Pass, result: tuple[Tensor, ...]) -> tuple[Tensor, State]:
    """What comes after it."""
    output = one.norms.whole("output", result[0])
    one.norms.close()
    return output, result[1:]
