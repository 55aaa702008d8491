"""Norms of the batch: which statistics a call takes, and which it is given.

Axes: T steps, B sequences, N packed rows, F features.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...loop import State
from ...sites import BatchPass, SitePass


def in_parts(
    run: Callable[..., tuple[Tensor, ...]],
    passes: Sequence[SitePass | None],
    eps: Sequence[float],
    rows: Tensor,
    sizes: list[int],
    state: State,
) -> tuple[Tensor, State]:
    """A whole direction by calls of ``run``, one wherever a norm comes to the first step that it
    reads from its table, which then holds the statistics of the steps before.

    Args:
        run: takes rows, state, sizes and given statistics, returns what ``Recurrence`` does.
        passes: of the norms of x, h and c; what is no norm of the batch is left to ``run``.
        eps: of the same.
        rows: (N, F).
        sizes: (T,) rows of each step.
        state: parts of shape (B, H).
    """
    norms = [norm if isinstance(norm, BatchPass) else None for norm in passes]
    cuts = sorted({0, len(sizes), *(norm.end for norm in norms if norm is not None)})
    parts = list(itertools.pairwise(cuts))
    outputs: list[Tensor] = []
    for (start, end), x in zip(parts, rows.split([sum(sizes[a:b]) for a, b in parts])):
        given = [
            None if norm is None or start < norm.end else _columns(norm, start, end, small, x.dtype)
            for norm, small in zip(norms, eps)
        ]
        alive = sizes[start]
        before = tuple(part[:alive] for part in state)
        output, *found = run(x, before, sizes[start:end], given)
        outputs.append(output)
        statistics = iter(found[len(state) :])
        for norm, columns in zip(norms, given):
            if norm is not None and columns is None:
                own, var = next(statistics), next(statistics)
                norm.gather(own[:, 0], var)
        if alive < len(state[0]):
            found = [torch.cat([new, part[alive:]]) for new, part in zip(found, state)]
        state = tuple(found[: len(state)])
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), state


def _columns(norm: BatchPass, start: int, end: int, eps: float, dtype: torch.dtype) -> Tensor:
    """(end - start, 2, F) mean and 1 / deviation of these steps, out of the table."""
    mean, var = (moment[start - norm.end : end - norm.end] for moment in norm.given())
    return torch.stack((mean, (var + eps).rsqrt()), 1).to(dtype)
