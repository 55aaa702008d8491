"""Reading the study's table: norms, measures by seed over several styles, and their differences."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm.studies.evidence import Interval, paired
from seqnorm.studies.table import Table

# One network for each style, or one for all of them.
OF_ONE = ("none", "batch", "instance")
OF_ALL = ("conditional", "adaptive")
NORMS = (*OF_ONE, *OF_ALL)
# The style of a network that has them all.
ALL = "all"


def by_seed(runs: Table, norm: str, styles: Sequence[str], measure: str) -> dict[int, float]:
    """A measure's mean over styles, of the seeds that have all of them.

    A run of one network for all styles has that mean already, whichever styles are asked for.
    """
    wanted = [ALL] if norm in OF_ALL else styles
    found = [runs.where(norm=norm, style=style).by_seed(measure) for style in wanted]
    seeds = set(found[0]).intersection(*found[1:])
    return {seed: sum(values[seed] for values in found) / len(found) for seed in sorted(seeds)}


def compare(runs: Table, measure: str, styles: Sequence[str]) -> Interval:
    """BatchNorm minus InstanceNorm, of the mean over styles, by pairs of the same seed."""
    return paired(
        by_seed(runs, "batch", styles, measure), by_seed(runs, "instance", styles, measure)
    )
