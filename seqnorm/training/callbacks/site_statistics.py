"""Statistics about the statistics of one norm, in numbers and in words.

Axes: S steps of a table, T steps of a batch, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqnorm.nn.statistics.moments import unbiased, widen

# Added to variances, as in the norms: the variance of a constant feature has no logarithm.
EPS = 1e-5


@dataclass
class SiteStatistics:
    """Sums over the inspected batches of one norm, for every step; float64, on the CPU."""

    passes: Tensor  # (S,) number of batches that reached the step
    rows: Tensor  # (S,) number of rows in all of them
    least: Tensor  # (S,) smallest number of rows in one of them
    few: Tensor  # (S,) number of batches with fewer rows than ``min_count``
    compared: Tensor  # (S,) number of batches whose moments were compared with running ones
    mean: Tensor  # (S,) sum of the drifts of their means, each averaged over the features
    var: Tensor  # (S,) sum of the drifts of their variances, likewise
    past: Tensor  # () number of steps beyond the table
    longest: Tensor  # () number of steps of the longest batch
    min_count = 2

    @classmethod
    def empty(cls, steps: int) -> SiteStatistics:
        """Return the sums of no batches."""
        options: Any = {"dtype": torch.float64, "device": "cpu"}
        # They may be created in inference mode and are updated in training.
        with torch.inference_mode(False):
            of_steps = [torch.zeros(steps, **options) for _ in range(7)]
            found = cls(*of_steps, *(torch.zeros((), **options) for _ in range(2)))
            found.least.fill_(torch.inf)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return all sums by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @torch.no_grad()
    def see(
        self,
        mean: Tensor,
        var: Tensor,
        rows: Tensor,
        first: int,
        known: tuple[Tensor, ...],
        min_count: int,
    ) -> None:
        """Take in one batch.

        Args:
            mean, var, rows, first: As in ``RunningTable.update``.
            known: The running mean and variance (S, F), and the counts (S,) that they rest on.
            min_count: The smallest number of rows that updates the table.
        """
        total = len(self.passes)
        inside = max(0, min(len(rows), total - first))
        own = min(len(mean), inside)
        # In half precision a count above 65504 is infinite.
        running_mean, running_var, count = (widen(value[first : first + own]) for value in known)
        n = rows[:own, None].to(running_var.dtype)
        spread = unbiased(var[:own].to(running_var.dtype), n) + EPS
        expected = running_var + EPS
        off = ((mean[:own] - running_mean).abs() * expected.rsqrt()).mean(1)
        wide = (spread / expected).log_().abs_().mean(1)
        off, wide, count, rows = (value.double().cpu() for value in (off, wide, count, rows))
        alive = rows > 0
        self.longest.copy_(torch.maximum(self.longest, first + alive.sum()))
        self.past += alive[inside:].sum()
        here, alive, rows = slice(first, first + inside), alive[:inside], rows[:inside]
        self.passes[here] += alive
        self.rows[here] += rows
        self.least[here] = torch.minimum(self.least[here], torch.where(alive, rows, torch.inf))
        self.few[here] += alive & (rows < min_count)
        here = slice(first, first + own)
        met = (rows[:own] >= min_count) & (count > 0)
        self.compared[here] += met
        self.mean[here] += torch.where(met, off, 0.0)
        self.var[here] += torch.where(met, wide, 0.0)

    def add(self, other: SiteStatistics) -> None:
        """Add the sums of other batches of the same norm."""
        merge = {"least": torch.minimum, "longest": torch.maximum}
        for name, theirs in other.tensors().items():
            setattr(self, name, merge.get(name, torch.add)(getattr(self, name), theirs))

    def rows_mean(self) -> Tensor:
        """Return the mean number of rows (S,) of a batch at each step; NaN at unreached steps."""
        return self.rows / self.passes

    def drift_mean(self) -> Tensor:
        """Return the average drift of the mean (S,); NaN at steps that were never compared."""
        return self.mean / self.compared

    def summary(self) -> dict[str, float]:
        """Return the values to log, as far as there are any."""
        passes, compared, past = self.passes.sum(), self.compared.sum(), self.past
        found = {}
        if passes:
            found["rows_mean"] = self.rows.sum() / passes
            found["rows_min"] = self.least.min()
            found["under_min_count"] = self.few.sum() / passes
            found["past_table"] = past / (passes + past)
        if compared:
            found["drift_mean"] = self.mean.sum() / compared
            found["drift_var"] = self.var.sum() / compared
        return {name: float(value) for name, value in found.items()}


class Trouble(NamedTuple):
    """A problem with the statistics of a site."""

    kind: str  # "rows", "min_count", "past" or "drift"
    size: float  # larger is worse, among those of one kind
    message: str  # the steps, the problem and its solution


def troubles(
    site: SiteStatistics, min_rows: float, max_drift: float, tolerated: float
) -> Iterator[Trouble]:
    """Yield the problems that affect more than the part ``tolerated`` of a site's steps."""
    passes, rows, drift = site.passes, site.rows_mean(), site.drift_mean()
    alive = max(float(passes.sum() + site.past), 1.0)

    def words(flags: Tensor) -> str:
        return steps_in_words(flags.nonzero()[:, 0].tolist(), len(passes))

    scarce = rows < min_rows
    if float(passes[scarce].sum()) / alive > tolerated:
        average = float(site.rows[scarce].sum() / passes[scarce].sum())
        message = (
            f"{words(scarce)} rest on {average:.1f} rows of a batch on average, fewer than "
            f"min_rows={min_rows:g}, so mean and variance are mostly noise: train in larger "
            "batches or batches of like length, or use a norm over the features of one example "
            "(LayerNorm)"
        )
        yield Trouble("rows", -average, message)
    share = float(site.few.sum()) / alive
    if share > tolerated:
        lower = ", lower min_count" if site.min_count > 2 else ""
        message = (
            f"{share:.0%} of all steps of all batches, among {words(site.few > 0)}, had fewer rows "
            f"than min_count={site.min_count}: they were normalised by running statistics and "
            f"updated none; train in larger batches{lower}, or use LayerNorm"
        )
        yield Trouble("min_count", share, message)
    share, longest = float(site.past) / alive, int(site.longest)
    if share > tolerated:
        message = (
            f"{share:.0%} of all steps of all batches lie past the table, up to step "
            f"{longest - 1}: they were normalised by the statistics of an earlier step; set "
            f"max_steps to {longest} instead of {len(passes)}, or cut the sequences"
        )
        yield Trouble("past", share, message)
    far = drift > max_drift
    if float(passes[far].sum()) / alive > tolerated:
        off = float(site.mean[far].sum() / site.compared[far].sum())
        message = (
            f"at {words(far)} the mean of a batch is off the running mean by {off:.2f} standard "
            f"deviations on average, more than max_drift={max_drift:g}, so inference normalises "
            "by other statistics than training: take them anew over the training data "
            "(seqnorm.reestimate_statistics, or the callback ReestimateStatistics), train in "
            "larger batches, or use LayerNorm"
        )
        yield Trouble("drift", off, message)


def steps_in_words(steps: Sequence[int], total: int) -> str:
    """Return steps in words, as "steps 3-5, 9"; a table of one step stands for all of them."""
    if total == 1:
        return "all steps together"
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][-1] + 1:
            runs[-1][1:] = [step]
        else:
            runs.append([step])
    shown = ["-".join(map(str, run)) for run in runs[:4]]
    more = ", ..." if len(runs) > 4 else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(shown)}{more}"
