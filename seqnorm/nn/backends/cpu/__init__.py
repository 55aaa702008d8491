"""Compiled loops for the CPU: normalised LSTM and GRU as fast as torch's plain layers.

What it does not take goes on to the next backend, with the reason.

Axes: B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ...check import warn
from ...direction import Direction
from ...lengths import Packing
from ...loop import State
from ...sites import BatchPass
from .. import reference
from ..reference import input_term
from .batch import in_parts
from .layout import layout
from .library import CELLS, LIBRARY, WHY_NOT, describe
from .operators import is_plain, recurrence
from .plan import Inputs, Plan

_warned: list[str] = []


def status() -> tuple[bool, str]:
    """Whether it is there, and with what, or why not."""
    return LIBRARY is not None, WHY_NOT or describe()


def claims(direction: Direction, rows: Tensor, packing: Packing) -> str | None:
    """Cells, norms and calls that the kernels know."""
    if torch.compiler.is_compiling():
        return "its kernels are no operator that torch.compile knows"
    if rows.device.type != "cpu":
        return f"its kernels are for the CPU, and the input is on {rows.device}"
    if rows.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return "its kernels compute in float32 and float64 alone"
    if forward_ad._current_level >= 0:
        return "its kernels know no forward-mode derivatives"
    weights = [*direction.tensors(), rows]
    if not all(is_plain(weight) for weight in weights):
        return "its kernels take plain tensors alone, no subclasses and none inside torch.func"
    if any(weight.dtype != rows.dtype or weight.device != rows.device for weight in weights):
        return "its kernels take input and weights of one dtype, on the CPU"
    if direction.weight_hr is not None:
        return "it has no kernel with a projection (proj_size)"
    if any(direction.zoneout):
        return "it has no kernel with zoneout"
    if not packing.batch_sizes:
        return "no rows"
    if direction.cell.name not in CELLS:
        return f"it has no kernel for the {direction.cell.name}"
    reason = layout(direction.cell, direction.scheme, direction.weight_hh.shape[1]).reason
    if reason is None and LIBRARY is None:
        if not _warned:
            _warned.append(WHY_NOT)
            warn(f"normalised layers are slow here, for backend 'cpu' is absent: {WHY_NOT}")
        return WHY_NOT
    return reason


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Packed inputs (N, I) and initial state (B, H), (B, H) to packed outputs and final state."""
    found = layout(direction.cell, direction.scheme, direction.weight_hh.shape[1])
    norms = direction.start(packing.batch_sizes)
    passes = [norms.of(site) for site in found.sites]
    if any(isinstance(norm, BatchPass) and norm.refuses for norm in passes):
        # It raises at the norm that comes first there, and what the others saw till then is kept.
        return reference.run(direction, rows, packing, state)
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

    def some(
        rows: Tensor, state: State, sizes: list[int], columns: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        """Steps with these numbers of rows, and the statistics that are given for them."""
        inputs = Inputs(
            rows,
            weight_ih,
            direction.weight_hh,
            state[0],
            state[1] if len(state) > 1 else None,
            *(None if norm is None else norm.weight for norm in (of_x, of_h, of_c)),
            None if of_c is None else of_c.bias,
            *columns,
            *(bias if place else None for bias, place in zip(biases, found.places)),
        )
        return recurrence(Plan(direction.cell, direction.scheme, found, sizes), inputs)

    if found.batch:
        output, final = in_parts(some, passes, found.eps, rows, packing.batch_sizes, state)
    else:
        output, *final = some(rows, state, packing.batch_sizes, (None, None, None))
    output = norms.whole("output", output)
    norms.close()
    return output, tuple(final)
