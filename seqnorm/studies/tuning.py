"""The choice of a learning rate for each norm, by one rule.

Every rate of a grid is tried with the tuning seeds, which are different from the reported seeds.
The rate with the best mean of a measure on validation data is chosen; of two equal ones, the
smaller. If it is the smallest or the largest of the grid, another rate is tried one step of the
grid beyond it, at most ``EXTENSIONS`` times. Test data play no role in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from statistics import mean

from .table import Setting, Table

TUNING_SEED = 1000
EXTENSIONS = 2


def tuning_seeds(count: int) -> range:
    """Return seeds to tune with, far from those that are reported."""
    return range(TUNING_SEED, TUNING_SEED + count)


def best_rate(
    table: Table, rates: Sequence[float], seeds: Sequence[int], measure: str, largest: bool = True
) -> float | None:
    """Return the chosen rate, or None while a run that decides about it is missing.

    Args:
        table: the tuning runs of one norm and task, with the rate in the column "rate".
        rates: the grid.
        seeds: the tuning seeds.
        measure: on validation data. A run that diverged (NaN) counts as the worst of all.
        largest: True if a larger measure is better.
    """
    scores: dict[float, float] = {}
    for rate in sorted(rates):
        found = table.by_seed(measure, rate=rate)
        if any(seed not in found for seed in seeds):
            return None
        score = mean(found[seed] for seed in seeds)
        scores[rate] = -math.inf if math.isnan(score) else score if largest else -score
    return max(scores, key=lambda rate: scores[rate])


def choose_rate(
    table: Table, rates: Sequence[float], seeds: Sequence[int], measure: str, largest: bool = True
) -> tuple[list[float], float | None]:
    """Return the rates to try so far, and the chosen one or None while runs are missing.

    A grid of a single rate needs no runs. Arguments are those of ``best_rate``.
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


def tuned_runs(
    done: Table,
    cases: Iterable[tuple[Setting, Sequence[float]]],
    *,
    tuning: int,
    seeds: int,
    measure: str,
    largest: bool = True,
) -> Iterator[Setting]:
    """Yield the tuning runs of all cases, then the runs of the cases whose rate is known.

    Args:
        done: all runs so far.
        cases: factors of a norm and task, and its grid of rates.
        tuning: number of seeds to tune with.
        seeds: number of reported seeds.
    """
    chosen: list[Setting] = []
    for case, rates in cases:
        tuned = done.where(stage="tune", **case)
        grid, best = choose_rate(tuned, rates, tuning_seeds(tuning), measure, largest)
        for rate, seed in product(grid, tuning_seeds(tuning)):
            yield {**case, "stage": "tune", "rate": rate, "seed": seed}
        if best is not None:
            chosen.append({**case, "stage": "run", "rate": best})
    # Seeds outermost, so that an interrupted study has all settings of the first seeds.
    for seed, run in product(range(seeds), chosen):
        yield {**run, "seed": seed}
