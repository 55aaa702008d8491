"""How sure a difference is: means over seeds with confidence intervals, and findings made of them.

Runs of one seed share initial weights, data order and whatever else is drawn, so two norms are
compared by the differences of their runs of the same seeds (a paired comparison). An interval is
Student's: ``mean ± t * s / sqrt(n)``, s the standard deviation of n differences, t the quantile
with n - 1 degrees of freedom. Each holds at its own level; they are not widened for being many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

LEVEL = 0.95
SHOWN = 10  # findings of a study that a page shows at once, the first ones


@dataclass(frozen=True)
class Interval:
    """A mean over n runs and where the true one lies with 95 % confidence.

    With fewer than two runs nothing is known of the spread, and the interval is infinite. One run
    without a number, because it diverged, leaves the mean none either: NaN, not that of the others.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 if the interval lies on one side of zero, else 0."""
        return (self.low > 0) - (self.high < 0)

    def scaled(self, factor: float) -> Interval:
        """In another unit: 100 makes points out of parts. The factor is positive."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor, self.n)


def interval(values: Iterable[float]) -> Interval:
    """Student's interval of the mean; of no values, NaN."""
    from scipy.stats import t

    values = list(values)
    n = len(values)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf, 0)
    if not all(map(math.isfinite, values)):
        return Interval(math.nan, -math.inf, math.inf, n)
    if n == 1:
        return Interval(values[0], -math.inf, math.inf, 1)
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(values) / math.sqrt(n)
    centre = mean(values)
    return Interval(centre, centre - half, centre + half, n)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Interval:
    """The interval of a - b over the seeds that both have."""
    return interval(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


@dataclass(frozen=True)
class Finding:
    """A difference or a mean, and whether it bears out what was expected.

    Attributes:
        what: the quantity, as "test error at batch 2, BatchNorm minus GroupNorm".
        interval: its value.
        unit: of the value; "" for none.
        expected: the sign that the argument against BatchNorm predicts; 0 if it predicts none.
        key: whether it is one of the few that stand in the README.
    """

    what: str
    interval: Interval
    unit: str = ""
    expected: int = 0
    key: bool = False

    @property
    def outcome(self) -> str:
        """In words, from the interval alone."""
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
    def numbers(self) -> tuple[str, str]:
        """Mean and interval as they stand in a table; empty where there is none."""
        i = self.interval
        mean = "" if math.isnan(i.mean) else f"{i.mean:+.3g} {self.unit}".strip()
        return mean, f"{i.low:+.3g} to {i.high:+.3g}" if math.isfinite(i.low) else ""

    @property
    def value(self) -> str:
        """``+3.1 points (95 % 2.0 to 4.2, 5 seeds)``."""
        i, unit = self.interval, f" {self.unit}" if self.unit else ""
        if i.n == 0:
            return "not measured"
        if math.isnan(i.mean):
            return f"no number ({i.n} {'seed' if i.n == 1 else 'seeds'})"
        if i.n == 1:
            return f"{i.mean:+.3g}{unit} (1 seed)"
        return f"{i.mean:+.3g}{unit} (95 % {i.low:+.3g} to {i.high:+.3g}, {i.n} seeds)"

    def __str__(self) -> str:
        return f"{self.what}: {self.value}: {self.outcome}"
