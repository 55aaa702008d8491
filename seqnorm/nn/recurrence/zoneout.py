"""Zoneout: units that keep their previous value (Krueger et al. 2017, eq. 2).

Axes: N packed rows, n rows alive at a step, B sequences, F units of one part of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

# The units of each row that keep their value, or the probability of that.
Stay = Union[Tensor, float]


def draw(
    probabilities: Sequence[float], training: bool, rows: int, state: Sequence[Tensor]
) -> list[Stay]:
    """Draw the units that stay, for each part (B, F) of the state and all steps at once.

    A compiled graph for all lengths draws more rows, so a seed gives other units there.

    Returns:
        Booleans (N, F) for each part; in inference, or where the probability is 0, the probability.
    """
    return [
        torch.rand(rows, part.shape[1], device=part.device, dtype=torch.float32) < p
        if training and p > 0
        else p
        for p, part in zip(probabilities, state)
    ]


def steps(stays: Sequence[Stay], sizes: Sequence[int]) -> list[Sequence[Stay]]:
    """Divide what ``draw`` returns into steps of these numbers of rows."""
    split = [s.split(list(sizes)) if isinstance(s, Tensor) else [s] * len(sizes) for s in stays]
    return list(zip(*split))


def keep(after: Tensor, before: Tensor, stay: Stay) -> Tensor:
    """Return the values (n, F) after a step, with the old values of the units that stay.

    For a probability, return the expectation.
    """
    if isinstance(stay, Tensor):
        return torch.where(stay, before, after)
    return after if stay == 0.0 else stay * before + (1.0 - stay) * after
