"""The state of a step as the kernels take it: h, and all other parts side by side.

Axes: B sequences, H units, L layers.
"""

from __future__ import annotations

import torch

from ...recurrence.step import State, Step

# A state of more parts is joined.
MOST = 2


def joined(state: State) -> State:
    """Return a state with all parts (..., B, H) after the first one as one tensor."""
    return state if len(state) <= MOST else (state[0], torch.cat(state[1:], -1))


def apart(state: State, step: Step) -> State:
    """Return a state of ``joined`` in the parts of a step, each with memory of its own."""
    if len(step.states) <= MOST:
        return state
    h, others = state
    size = others.shape[-1] // (len(step.states) - 1)
    return h, *[
        part.clone(memory_format=torch.contiguous_format) for part in others.split(size, -1)
    ]
