"""States of every cell, in the form in which its layer and its single step take them.

Axes: B sequences, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqnorm.nn.recurrence.step import STEPS


def draw(kind: str, *shape: int) -> tuple[Tensor, ...]:
    """Every part of a random state; an n, which counts exponentials, is positive."""
    parts = {letter: torch.randn(*shape, dtype=torch.float64) for letter in STEPS[kind].states}
    return tuple(part.abs() + 0.5 if letter == "n" else part for letter, part in parts.items())


def zeros(kind: str, *shape: int) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(*shape, dtype=torch.float64) for _ in STEPS[kind].states)


def of_layer(layer: Any, B: int) -> tuple[Tensor, ...]:
    """Zeros (B, H) as one direction of a layer starts from them, without a projection."""
    letters = layer.directions()[0].step.states
    return tuple(layer.weight_hh_l0.new_zeros(B, layer.hidden_size) for _ in letters)


def as_hx(parts: Sequence[Tensor]) -> Any:
    """h alone as a tensor, several parts as a tuple, and ``None`` of none."""
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else tuple(parts)


def parts_of(state: Any) -> tuple[Tensor, ...]:
    """What ``as_hx`` was given."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def output_normed(norm: Any) -> bool:
    """Whether a preset or scheme (``None`` for none) has a norm that no single step can have."""
    return norm is not None and norm.output is not None
