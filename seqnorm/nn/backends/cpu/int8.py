"""Weights of int8: the calls whose products are of whole numbers, and those that are in floats."""

from __future__ import annotations

import math

from ...recurrence.direction import Direction

# A W_hh of so many numbers stays in a core's cache as floats, too. Products of many rows are then
# faster in floats, and computing these once a call takes little beside them.
SMALL = 1 << 18
FEW_ROWS = 256


def most_rows(direction: Direction) -> float:
    """Return the rows up to which a call of a direction reads the int8 as they are."""
    small = direction.weight_hh.numel() <= SMALL
    return FEW_ROWS if direction.scales and small else math.inf
