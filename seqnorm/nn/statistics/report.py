"""What running statistics rest on, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn

from .running_table import RunningTable

MOST_BANDS = 12
BAR = 24


class Band(NamedTuple):
    """Steps next to each other that rest on about as many rows.

    Attributes:
        first, last: its steps.
        fewest, most: rows that they rest on.
    """

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
    """Rows seen in training at every step, for each table of a module.

    Attributes:
        rows: by the table's name in the module, a tuple of ``max_steps`` counts.
        min_count: rows that a batch needs for one update, by the same names.
        beyond: what becomes of steps without statistics, by the same names.
        uncounted: number of steps that hold statistics with a count of 0, by the same names; see
            ``RunningTable.adopt``.
    """

    rows: dict[str, tuple[int, ...]]
    min_count: dict[str, int]
    beyond: dict[str, str]
    uncounted: dict[str, int] = field(default_factory=dict)

    def trusted(self, name: str) -> int:
        """Number of steps that have statistics of their own."""
        return sum(count > 0 for count in self.rows[name])

    def bands(self, name: str) -> list[Band]:
        """The steps of a table in at most 12 bands, which printing shows.

        Steps of equal count are one band; if that makes too many, so are steps whose counts differ
        by a factor of at most 2, or 4, and so on. Steps without statistics stay apart.
        """
        return _bands(self.rows[name])

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
            for band in _bands(counts):
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
    """The counts of every ``RunningTable`` in ``module``."""
    tables = {
        name: table for name, table in module.named_modules() if isinstance(table, RunningTable)
    }
    return Report(
        rows={name: tuple(table.count.tolist()) for name, table in tables.items()},
        min_count={name: table.min_count for name, table in tables.items()},
        beyond={name: table.beyond for name, table in tables.items()},
        uncounted={name: int(table.uncounted().sum()) for name, table in tables.items()},
    )


def _bands(counts: Sequence[int]) -> list[Band]:
    factor = 1
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


def _within(counts: Sequence[int], factor: int) -> list[Band]:
    """Bands whose counts differ by that factor at most, those of 0 apart."""
    found: list[Band] = []
    for step, count in enumerate(counts):
        if found:
            first, _, fewest, most = found[-1]
            fewest, most = min(fewest, count), max(most, count)
            if most <= fewest * factor:
                found[-1] = Band(first, step, fewest, most)
                continue
        found.append(Band(step, step, count, count))
    return found
