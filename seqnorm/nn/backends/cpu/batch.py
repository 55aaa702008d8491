"""Norms of the batch: calls that compute statistics, and calls that read them from a table.

Axes: T steps, B sequences, N packed rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...recurrence.direction import Direction
from ...recurrence.packing import with_ended
from ...recurrence.site_norms import BatchPass, BatchSiteNorm, SitePass
from .call import Call, Inputs
from .plan import Plan


def corrected(direction: Direction, plan: Plan) -> str | None:
    """Return the reason why the kernels do not take a call with Batch Renormalization, if so.

    It corrects statistics of the batch alone, so that inference is that of BatchNorm.
    """
    for site in plan.sites:
        norm = direction.norms.get(site)
        if isinstance(norm, BatchSiteNorm) and norm.learns and norm.renormalization is not None:
            return "it has no kernel for Batch Renormalization in training, only in inference"
    return None


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
        alive, here = sizes[start], slice(row, row + sum(sizes[start:end]))
        row = here.stop
        part = _part(inputs, here, [before[:alive] for before in state], given)
        output, *found = recurrence(call._replace(sizes=sizes[start:end]), part)
        outputs.append(output)
        statistics = iter(found[len(state) :])
        for norm, columns in zip(norms, given):
            if norm is not None and columns is None:
                own, var = next(statistics), next(statistics)
                norm.gather(own[:, 0], var)
        state = with_ended(found[: len(state)], state)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), *state


def pooled_columns(norm: BatchPass, dtype: torch.dtype, eps: float) -> Tensor | None:
    """Return the columns (1, 2, F) of a norm over time that reads its table, or None."""
    return None if norm.end > norm.first else _columns(norm, 0, 1, eps).to(dtype)


def _part(
    inputs: Inputs, rows: slice, state: Sequence[Tensor], given: Sequence[Tensor | None]
) -> Inputs:
    """Return the part of a call with these packed rows."""
    columns = [None if found is None else found.to(inputs.input.dtype) for found in given]
    return inputs._replace(
        input=inputs.input[rows],
        h_0=state[0],
        c_0=state[1] if len(state) > 1 else None,
        columns_x=columns[0],
        columns_h=columns[1],
        columns_c=columns[2],
        stay_h=None if inputs.stay_h is None else inputs.stay_h[rows],
        stay_c=None if inputs.stay_c is None else inputs.stay_c[rows],
    )


def _columns(norm: BatchPass, start: int, end: int, eps: float) -> Tensor:
    """Return mean and 1 / deviation (end - start, 2, F) of some steps of the table."""
    mean, var = (moment[start:end] for moment in norm.given())
    return torch.stack((mean, (var + eps).rsqrt()), 1)
