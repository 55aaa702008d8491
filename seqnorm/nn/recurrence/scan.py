"""The time loop, the one place in this library that walks over time.

Axes: T steps, B sequences, N packed rows, n rows alive at a step, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .step import State

Advance = Callable[[Tensor, State, int], State]


def scan(
    step: Advance, rows: Tensor, batch_sizes: Sequence[int], state: State
) -> tuple[Tensor, State]:
    """Apply ``step`` to the rows of each step; its output is the first part of the new state.

    Args:
        step: ``step(x, state, t) -> state`` with x (n, F) and every part of the state (n, ·).
        rows: (N, F) packed rows.
        batch_sizes: rows alive at each step, never growing.
        state: parts of shape (B, ·), longest sequence first.

    Returns:
        Packed outputs (N, ·), and the state (B, ·) of every sequence after its own last step. A
        sequence of length zero keeps its initial state.
    """
    outputs: list[Tensor] = []
    finished: list[State] = []
    # Not a slice for each step: the backward of a slice fills a gradient as long as all rows.
    for t, x in enumerate(rows.split(list(batch_sizes))):
        alive = x.shape[0]  # may be a symbol of a graph, which len would fix
        if alive < state[0].shape[0]:
            finished.append(tuple(part[alive:] for part in state))
            state = tuple(part[:alive] for part in state)
        state = step(x, state, t)
        outputs.append(state[0])
    if not batch_sizes:
        return state[0].new_zeros(0, state[0].shape[-1]), state
    finished.append(state)
    finished.reverse()
    final = tuple(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*finished))
    return torch.cat(outputs), final
