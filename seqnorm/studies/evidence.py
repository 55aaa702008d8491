"""Means over seeds with confidence intervals, and the findings and claims that rest on them.

Runs of one seed share initial weights, data order and everything else that is drawn. Two norms are
therefore compared by the differences between their runs of the same seeds (a paired comparison). An
interval is Student's: ``mean ± t * s / sqrt(n)``, where s is the standard deviation of n
differences and t the quantile with n - 1 degrees of freedom. The
intervals are not corrected for multiple comparisons.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import NamedTuple

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean over n runs, and the range of the true mean with 95 % confidence.

    The interval of fewer than two runs is infinite. A run that diverged makes the mean NaN.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 if the interval lies on one side of zero, else 0."""
        return (self.low > 0) - (self.high < 0)

    @property
    def half(self) -> float:
        """Half of the width; 0 if it is infinite, for the bars of a figure."""
        return self.high - self.mean if math.isfinite(self.high) else 0.0

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def interval(values: Iterable[float]) -> Interval:
    """Return Student's interval of the mean; the mean of no values is NaN."""
    from scipy.stats import t

    values = list(values)
    n = len(values)
    if n == 0 or not all(map(math.isfinite, values)):
        return Interval(math.nan, -math.inf, math.inf, n)
    if n == 1:
        return Interval(values[0], -math.inf, math.inf, 1)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(values) / math.sqrt(n)
    centre = mean(values)
    return Interval(centre, centre - half, centre + half, n)


class Seeds(dict[int, float]):
    """A number for each seed. A difference is taken seed by seed, over the seeds of both."""

    def __sub__(self, other: Mapping[int, float]) -> Seeds:
        return Seeds({seed: self[seed] - other[seed] for seed in sorted(self.keys() & other)})

    def __rmul__(self, factor: float) -> Seeds:
        return Seeds({seed: factor * value for seed, value in self.items()})

    @property
    def interval(self) -> Interval:
        return interval(self.values())


def mean_of(parts: Iterable[Seeds]) -> Seeds:
    """Return the mean of several numbers, for the seeds that have all of them."""
    found = list(parts)
    seeds = set(found[0]).intersection(*found[1:])
    return Seeds({seed: sum(part[seed] for part in found) / len(found) for seed in sorted(seeds)})


@dataclass(frozen=True)
class Finding:
    """A difference or a mean, and the sign that was expected of it."""

    quantity: str  # in words, as "test error at batch 2, BatchNorm minus GroupNorm"
    interval: Interval
    unit: str = ""
    expected: int = 0  # sign that the argument against BatchNorm predicts; 0 for no prediction
    key: bool = False  # True for the few findings that stand in docs/which_norm.md

    @property
    def outcome(self) -> str:
        """The comparison of the interval with the expected sign, in words."""
        if self.interval.n < 2:
            return "too few runs to say"
        if math.isnan(self.interval.mean):
            return "a run diverged"
        if self.interval.sign == 0:
            return "no difference shown"
        if self.expected == 0:
            return "differs from zero"
        return "as predicted" if self.interval.sign == self.expected else "against the prediction"

    @property
    def mean(self) -> str:
        """The mean with its unit as it stands in a table; empty if there is no number."""
        i = self.interval
        return "" if math.isnan(i.mean) else f"{i.mean:+.3g} {self.unit}".strip()

    @property
    def bounds(self) -> str:
        """The interval as it stands in a table; empty if it is infinite."""
        i = self.interval
        return f"{i.low:+.3g} to {i.high:+.3g}" if math.isfinite(i.low) else ""

    @property
    def value(self) -> str:
        """``+3.1 points (95 % 2.0 to 4.2, 5 seeds)``."""
        if self.interval.n == 0:
            return "not measured"
        seeds = "1 seed" if self.interval.n == 1 else f"{self.interval.n} seeds"
        bounds = f"95 % {self.bounds}, " if self.bounds else ""
        return f"{self.mean or 'no number'} ({bounds}{seeds})"

    def __str__(self) -> str:
        return f"{self.quantity}: {self.value}: {self.outcome}"


class Ground(NamedTuple):
    """A number that a claim rests on, and True if it bears the claim out."""

    interval: Interval
    holds: bool


def _grounds(holds: Callable[[Seeds], bool]) -> Callable[..., list[Ground]]:
    return lambda *values: [Ground(value.interval, holds(value)) for value in values]


# Statements about numbers. The interval of each lies above zero, below zero, or holds zero (no
# difference is shown); each is exactly zero for every seed; each was measured, whatever it is.
above = _grounds(lambda value: value.interval.sign > 0)
below = _grounds(lambda value: value.interval.sign < 0)
level = _grounds(lambda value: value.interval.sign == 0)
zero = _grounds(lambda value: not any(value.values()))
given = _grounds(lambda value: True)


class Claim:
    """A sentence of a verdict, written by hand, and the numbers that it rests on.

    The sentence is stated only of a table that bears it out. Otherwise the claim says that the
    table does not confirm it. The text refers to the intervals of the numbers as ``{0}``, ``{1}``,
    ... and to their means as ``{0.mean:.1f}``.
    """

    def __init__(self, text: str, *grounds: list[Ground]) -> None:
        self.text = text
        self.grounds = [ground for some in grounds for ground in some]
        measured = all(i.n > 1 and math.isfinite(i.mean) for i, _ in self.grounds)
        self.holds = measured and all(holds for _, holds in self.grounds)

    def __str__(self) -> str:
        if self.holds:
            return self.text.format(*(ground.interval for ground in self.grounds))
        return f"Not confirmed by this table: “{re.sub('{.*?}', '…', self.text)}”"
