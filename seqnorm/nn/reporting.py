"""What running statistics rest on, step by step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .tables import RunningTable


@dataclass(frozen=True)
class Report:
    """Rows seen in training at every step, for each table of a module.

    Attributes:
        rows: by the table's name in the module, a tuple of ``max_steps`` counts.
        min_count: rows that a batch needs for one update, by the same names.
        beyond: what becomes of steps without statistics, by the same names.
    """

    rows: dict[str, tuple[int, ...]]
    min_count: dict[str, int]
    beyond: dict[str, str]

    def trusted(self, name: str) -> int:
        """Number of steps that have statistics of their own."""
        return sum(count > 0 for count in self.rows[name])

    def __str__(self) -> str:
        if not self.rows:
            return "no running statistics: no norm here averages over the batch"
        blocks: dict[tuple[tuple[int, ...], int], list[str]] = {}
        for name, counts in self.rows.items():
            blocks.setdefault((counts, self.min_count[name]), []).append(name)
        lines = []
        for (counts, least), names in blocks.items():
            seen = sum(count > 0 for count in counts)
            lines.append(", ".join(names))
            lines.append(f"  {seen} of {len(counts)} steps seen, at least {least} rows a batch")
            lines += [f"  {label:>11}  {count:>12,} rows" for label, count in _runs(counts)]
            if 0 < seen < len(counts):
                last = max(step for step, count in enumerate(counts) if count > 0)
                refused = self.beyond[names[0]] == "error"
                use = "refused" if refused else f"normalised by the statistics of step {last}"
                lines.append(f"  later steps are {use}")
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
    )


def _runs(counts: tuple[int, ...]) -> list[tuple[str, int]]:
    """Steps with the same count as one line: ("3-7", 64)."""
    lines: list[tuple[str, int]] = []
    start = 0
    for step in range(1, len(counts) + 1):
        if step == len(counts) or counts[step] != counts[start]:
            label = f"step {start}" if step - start == 1 else f"{start}-{step - 1}"
            lines.append((label, counts[start]))
            start = step
    return lines
