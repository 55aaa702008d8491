"""Norms of the batch: calls that compute statistics, and calls that read them from a table.

Axes: T steps, B sequences, N packed rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...recurrence.packing import with_ended
from ...recurrence.site_norms import BatchPass, SitePass
from .call import COLUMNS, STAYS, Call, Inputs


def in_parts(
    call: Call,
    inputs: Inputs,
    passes: Sequence[SitePass | None],
    recurrence: Callable[[Call, Inputs], tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    """Return output and final states of ``recurrence``, called separately for parts of the steps.

    A part begins where a norm comes to the first step that it reads from its table. The table then
    holds the statistics of the steps before.

    Args:
        passes: passes of the norms of x, h and c; only those of the batch count.
        recurrence: the function of ``operators`` or of ``traced``.
    """
    sizes = call.sizes
    norms = [norm if isinstance(norm, BatchPass) else None for norm in passes]
    ends = [0 if norm is None else norm.end - norm.first for norm in norms]
    cuts = sorted({0, len(sizes), *ends})
    outputs: list[Tensor] = []
    state = tuple([part for part in (inputs.h_0, inputs.c_0) if part is not None])
    row = 0
    for start, end in zip(cuts, cuts[1:]):
        given = [
            None if norm is None or start < read else _columns(norm, start - read, end - read, eps)
            for norm, read, eps in zip(norms, ends, call.plan.eps)
        ]
        before = [
            norm.correcting(start, end) if norm is not None and columns is None else None
            for norm, columns in zip(norms, given)
        ]
        alive, here = sizes[start], slice(row, row + sum(sizes[start:end]))
        row = here.stop
        part = _part(inputs, here, [part[:alive] for part in state], given, before)
        output, *found = recurrence(call._replace(sizes=sizes[start:end]), part)
        outputs.append(output)
        statistics = iter(found[len(state) :])
        for norm, columns in zip(norms, given):
            if norm is not None and columns is None:
                own, var = next(statistics), next(statistics)
                mean = own[:, 0]
                if own.shape[1] > 2:  # corrected by d, see ``src/arguments.h``
                    mean = mean + own[:, 2] / own[:, 1]
                norm.gather(mean, var)
        state = with_ended(found[: len(state)], state)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), *state


def pooled_columns(norm: BatchPass, dtype: torch.dtype, eps: float) -> Tensor | None:
    """Return the columns (1, 2, F) of a norm over time that reads its table, or None."""
    return None if norm.end > norm.first else _columns(norm, 0, 1, eps).to(dtype)


def _part(
    inputs: Inputs,
    rows: slice,
    state: Sequence[Tensor],
    columns: Sequence[Tensor | None],
    before: Sequence[Tensor | None],
) -> Inputs:
    """Return the part of a call with these packed rows."""
    dtype = inputs.input.dtype
    found: Any = [None if t is None else t.to(dtype) for t in (*columns, *before)]
    return inputs._replace(
        **dict(zip(Inputs._fields[COLUMNS:STAYS], found)),
        input=inputs.input[rows],
        h_0=state[0],
        c_0=state[1] if len(state) > 1 else None,
        stay_h=None if inputs.stay_h is None else inputs.stay_h[rows],
        stay_c=None if inputs.stay_c is None else inputs.stay_c[rows],
    )


def _columns(norm: BatchPass, start: int, end: int, eps: float) -> Tensor:
    """Return mean and 1 / deviation (end - start, 2, F) of some steps of the table."""
    mean, var = (moment[start:end] for moment in norm.given())
    return torch.stack((mean, (var + eps).rsqrt()), 1)
