"""Float64 definition of running statistics, and the fraction that every norm computes.

This module does not import seqnorm. Axes: F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Table:
    """Running statistics: for each step a mean (F,), a variance (F,) and the count of rows."""

    mean: list[Tensor]
    var: list[Tensor]
    count: list[int]

    @classmethod
    def initial(cls, steps: int, features: int) -> Table:
        zero, one = torch.zeros(features).double(), torch.ones(features).double()
        return cls([zero] * steps, [one] * steps, [0] * steps)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], prefix: str) -> Table:
        return cls(
            list(state[prefix + "running_mean"].detach().double().clone()),
            list(state[prefix + "running_var"].detach().double().clone()),
            [int(count) for count in state[prefix + "count"]],
        )

    def stand_in(self, step: int, beyond: str, training: bool) -> tuple[Tensor, Tensor]:
        """Return the statistics in place of the batch's: those of this step or of the last seen.

        With ``beyond="error"``, training accepts a step not seen yet, but not one past the table.
        """
        own = step < len(self.count) and (training or self.count[step] > 0)
        if beyond == "error" and not own:
            raise IndexError(f"step {step} has no statistics of its own")
        for earlier in range(min(step, len(self.count) - 1), -1, -1):
            if self.count[earlier] > 0:
                return self.mean[earlier], self.var[earlier]
        return torch.zeros_like(self.mean[0]), torch.ones_like(self.var[0])

    def update(self, step: int, rows: Sequence[Tensor], norm: Any) -> None:
        n = len(rows)
        rows = [row.detach() for row in rows]
        mean = sum(rows) / n
        var = sum((row - mean) ** 2 for row in rows) / (n - 1)
        self.count[step] += n
        weight = n / self.count[step]
        if norm.momentum is not None:
            weight = max(weight, norm.momentum)
        self.mean[step] = (1 - weight) * self.mean[step] + weight * mean
        self.var[step] = (1 - weight) * self.var[step] + weight * var


def scaled(value: Tensor, mean: Tensor, var: Tensor, norm: Any) -> Tensor:
    """Return (value - mean) over the standard deviation, with eps inside or outside the root."""
    if norm.eps_on == "var":
        return (value - mean) / (var + norm.eps) ** 0.5
    # A root has no derivative at 0, but the fraction has 1 / eps, because its numerator is also 0.
    roots = [v**0.5 if v > 0 else torch.zeros_like(v) for v in var.reshape(-1)]
    return (value - mean) / (torch.stack(roots).reshape(var.shape) + norm.eps)
