"""The number of rows behind the running statistics of each time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from .running_table import RunningTable

MOST_BANDS = 12
BAR = 24


class Band(NamedTuple):
    """Consecutive steps, ``first`` to ``last``, that rest on ``fewest`` to ``most`` rows."""

    first: int
    last: int
    fewest: int
    most: int

    def __str__(self) -> str:
        steps = f"step {self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        rows = f"{self.fewest:,}" if self.fewest == self.most else f"{self.fewest:,}-{self.most:,}"
        return f"  {steps:>11}  {rows:>12} rows"


@dataclass(frozen=True)
class Report:
    """Rows seen in training at each step, for every table of a module.

    Its attributes are dictionaries by the table's name in the module.

    Attributes:
        rows: ``max_steps`` counts.
        min_count: rows that a batch needs for an update.
        beyond: the treatment of steps without statistics, "last" or "error".
        uncounted: number of steps that hold statistics with a count of 0; see
            ``RunningTable.adopt``.
    """

    rows: dict[str, tuple[int, ...]]
    min_count: dict[str, int]
    beyond: dict[str, str]
    uncounted: dict[str, int] = field(default_factory=dict)

    def trusted(self, name: str) -> int:
        """Return the number of steps that have statistics of their own."""
        return sum(count > 0 for count in self.rows[name])

    def bands(self, name: str) -> list[Band]:
        """Divide the steps of a table into at most 12 bands, as printing shows them.

        Consecutive steps of equal count form a band. If there are too many, so do steps whose
        counts differ by a factor of at most 2, 4 and so on; steps without statistics stay apart.
        """
        counts, factor = self.rows[name], 1
        while len(found := _within(counts, factor)) > MOST_BANDS and factor <= max(counts):
            factor *= 2
        if len(found) > MOST_BANDS:  # seen and unseen steps alternate
            size = -(-len(counts) // MOST_BANDS)
            parts = [counts[start : start + size] for start in range(0, len(counts), size)]
            found = [
                Band(number * size, number * size + len(part) - 1, min(part), max(part))
                for number, part in enumerate(parts)
            ]
        return found

    def __str__(self) -> str:
        if not self.rows:
            return "no running statistics: no norm here averages over the batch"
        blocks: dict[tuple[tuple[int, ...], int, int], list[str]] = {}
        for name, counts in self.rows.items():
            key = (counts, self.min_count[name], self.uncounted.get(name, 0))
            blocks.setdefault(key, []).append(name)
        lines = []
        for (counts, least, uncounted), names in blocks.items():
            seen, most = sum(count > 0 for count in counts), max(counts)
            lines.append(", ".join(names))
            lines.append(f"  {seen} of {len(counts)} steps seen, at least {least} rows a batch")
            for band in self.bands(names[0]):
                bar = "#" * -(-BAR * band.most // max(most, 1))
                lines.append(f"{band}  {bar}".rstrip())
            if 0 < seen < len(counts):
                last = max(step for step, count in enumerate(counts) if count > 0)
                refused = self.beyond[names[0]] == "error"
                use = "refused" if refused else f"normalised by the statistics of step {last}"
                lines.append(f"  later steps are {use}")
            if uncounted:
                lines.append(
                    f"  {uncounted} steps hold statistics with a count of 0, which are not "
                    "trusted: take them over by table.adopt(mean, var)"
                )
        return "\n".join(lines)


def report(module: nn.Module) -> Report:
    """Return the counts of every ``RunningTable`` in ``module``."""
    tables = {
        name: table for name, table in module.named_modules() if isinstance(table, RunningTable)
    }
    return Report(
        rows={name: tuple(table.count.tolist()) for name, table in tables.items()},
        min_count={name: table.min_count for name, table in tables.items()},
        beyond={name: table.beyond for name, table in tables.items()},
        uncounted={name: int(table.uncounted().sum()) for name, table in tables.items()},
    )


def _within(counts: Sequence[int], factor: int) -> list[Band]:
    """Return bands of counts that differ by at most the factor; counts of 0 stay apart."""
    found: list[Band] = []
    for step, count in enumerate(counts):
        last = found[-1] if found else Band(step, step, 0, 1)
        fewest, most = min(last.fewest, count), max(last.most, count)
        if most <= fewest * factor:
            found[-1] = Band(last.first, step, fewest, most)
        else:
            found.append(Band(step, step, count, count))
    return found
