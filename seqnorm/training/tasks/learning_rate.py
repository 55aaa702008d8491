"""A learning rate that rises and then falls."""

from __future__ import annotations

import math

# Far above any useful rate, and far below the largest float32.
_MAX_LR = 1e6


def check_rate(lr: float, warmup: float) -> None:
    """Raise ValueError if ``lr`` or ``warmup`` is out of range."""
    if not 0 <= lr <= _MAX_LR:
        raise ValueError(f"lr must lie between 0 and {_MAX_LR:g}, got {lr}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a part of the training steps, from 0 to below 1, got {warmup}")


def rate(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Return the learning rate of a step, as a part of the highest rate.

    It rises linearly over the part ``warmup`` of the ``steps``. Then it falls to 0 along a cosine
    or a line, or stays constant, as ``schedule`` says.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    progress = min((step - rising) / max(steps - rising, 1), 1.0)
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
