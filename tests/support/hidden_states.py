"""States of every cell, in the form that its layer and its single step take.

Axes: B sequences, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqnorm.nn.recurrence.step import STEPS


def draw(kind: str, *shape: int) -> tuple[Tensor, ...]:
    """Draw all tensors of a random state; n, a sum of exponentials, is positive."""
    parts = {letter: torch.randn(*shape, dtype=torch.float64) for letter in STEPS[kind].states}
    return tuple(part.abs() + 0.5 if letter == "n" else part for letter, part in parts.items())


def zeros(kind: str, *shape: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(*shape, dtype=torch.float64) for _ in STEPS[kind].states)


def of_layer(layer: Any, B: int) -> tuple[Tensor, ...]:
    """Return the initial zeros (B, H) of one direction of a layer without a projection."""
    letters = layer.directions()[0].step.states
    return tuple(layer.weight_hh_l0.new_zeros(B, layer.hidden_size) for _ in letters)


def as_hx(parts: Sequence[Tensor]) -> Any:
    """Return a single part as a tensor, several as a tuple, and ``None`` for ``None``."""
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else tuple(parts)


def parts_of(state: Any) -> tuple[Tensor, ...]:
    """Return the parts, the inverse of ``as_hx``."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def output_normed(norm: Any) -> bool:
    """Return True if a preset or scheme has a norm of the output, which a single step refuses."""
    return norm is not None and norm.output is not None
