"""Zoneout: units that keep their value of the step before (Krueger et al. 2017, eq. 2).

Axes: N packed rows, n rows alive at a step, B sequences, F units of one part of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

# Which units of each row stay, or with what probability.
Stay = Union[Tensor, float]


def draw(
    probabilities: Sequence[float], training: bool, rows: int, state: Sequence[Tensor]
) -> list[Stay]:
    """For each part (B, F) of the state: in training which units of every row stay, (N, F) booleans
    drawn for all steps at once; in inference, and where none do, the probability. (A compiled graph
    for all lengths draws more rows, so a seed gives other units there.)"""
    return [
        torch.rand(rows, part.shape[1], device=part.device, dtype=torch.float32) < p
        if training and p > 0
        else p
        for p, part in zip(probabilities, state)
    ]


def steps(stays: Sequence[Stay], sizes: Sequence[int]) -> list[Sequence[Stay]]:
    """The same for each step by itself, with these numbers of rows."""
    split = [s.split(list(sizes)) if isinstance(s, Tensor) else [s] * len(sizes) for s in stays]
    return list(zip(*split))


def keep(after: Tensor, before: Tensor, stay: Stay) -> Tensor:
    """What units (n, F) hold after a step: of those that stay, what they held before; given a
    probability, the expectation of that."""
    if isinstance(stay, Tensor):
        return torch.where(stay, before, after)
    return after if stay == 0.0 else stay * before + (1.0 - stay) * after
