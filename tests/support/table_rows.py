"""Running tables, rows for them, and the presets that have tables.

Axes: S = max_steps, F features, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqnorm import PRESETS
from seqnorm.nn.statistics import RunningTable
from seqnorm.nn.statistics.moments import moments

F, S = 3, 5
I, H = 3, 4  # noqa: E741 (the axes' letters)
BATCHED = [
    (name, cell)
    for name, cells in PRESETS.items()
    for cell, scheme in cells.items()
    if any(norm.over_batch for norm in scheme.norms.values())
]


def table_of(**options: Any) -> RunningTable:
    return RunningTable(F, **({"max_steps": S, "dtype": torch.float64} | options))


def batch_of(rows: list[int]) -> list[Tensor]:
    """Return random rows (n, F) for each step, with the given numbers n."""
    return [1.5 + 2.0 * torch.randn(n, F).double() for n in rows]


def feed(table: RunningTable, batch: list[Tensor], first: int = 0) -> None:
    """Update a table as a pass over time does; a step without rows has the moments (0, 0)."""
    found = [moments(rows, (0,)) for rows in batch]
    mean = torch.cat([moment.mean for moment in found])
    var = torch.cat([moment.var for moment in found])
    table.update(mean, var, torch.tensor([len(rows) for rows in batch]), first)
