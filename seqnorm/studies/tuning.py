"""Choosing a learning rate for each norm, by one stated rule.

Every rate of a grid is tried with the tuning seeds, which are none of the seeds that are reported;
the rate with the best mean of a measure on validation data is taken, of two equal ones the smaller.
If that is the smallest or the largest of the grid, one more is tried beyond it, a step of the grid
further, and so on, at most ``EXTENSIONS`` times. The test part is never looked at for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from .table import Table, Value

TUNING_SEED = 1000
EXTENSIONS = 2


def tuning_seeds(count: int) -> range:
    """Seeds to tune with, far from those that are reported."""
    return range(TUNING_SEED, TUNING_SEED + count)


def best_rate(
    table: Table, rates: Sequence[float], seeds: Sequence[int], measure: str, largest: bool = True
) -> float | None:
    """The chosen rate, or None while a run that decides about it is missing.

    Args:
        table: the tuning runs of one norm and task, with the rate in the column "rate".
        rates: the grid.
        seeds: the tuning seeds.
        measure: on validation data. A run that diverged (NaN) counts as the worst of all.
        largest: whether a larger measure is better.
    """
    scores: dict[float, float] = {}
    for rate in sorted(rates):
        found = table.where(rate=rate).by_seed(measure)
        if any(seed not in found for seed in seeds):
            return None
        scores[rate] = _score([found[seed] for seed in seeds], largest)
    return max(scores, key=lambda rate: scores[rate])


def choose_rate(
    table: Table, rates: Sequence[float], seeds: Sequence[int], measure: str, largest: bool = True
) -> tuple[list[float], float | None]:
    """The rates to try as far as is known by now, and the chosen one, None while that is open.

    A grid of a single rate leaves no choice, and nothing is tried. Arguments as for ``best_rate``.
    """
    grid = sorted(rates)
    if len(grid) == 1:
        return [], grid[0]
    best = best_rate(table, grid, seeds, measure, largest)
    for _ in range(EXTENSIONS):
        if best is None or best not in (grid[0], grid[-1]):
            break
        beyond = grid[0] ** 2 / grid[1] if best == grid[0] else grid[-1] ** 2 / grid[-2]
        grid = sorted([*grid, float(f"{beyond:.3g}")])
        best = best_rate(table, grid, seeds, measure, largest)
    return grid, best


def _score(values: Sequence[Value], largest: bool) -> float:
    numbers = [float(v) if isinstance(v, (int, float)) else math.nan for v in values]
    if any(math.isnan(number) for number in numbers):
        return -math.inf
    return mean(numbers) if largest else -mean(numbers)
