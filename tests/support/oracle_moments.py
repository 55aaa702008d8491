"""Mean and variance of a list of numbers, by exact sums."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and biased variance of a list of numbers; (0, 0) for an empty list."""
    if not values:
        return 0.0, 0.0
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)
