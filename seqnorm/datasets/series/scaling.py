"""Mean and standard deviation by which features and targets are scaled.

Letters: S steps, F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Scaling(NamedTuple):
    """Names of F features, with the mean and the standard deviation of each as plain numbers."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], values: Sequence[Tensor]) -> Scaling:
        """Return the mean and standard deviation of all steps of the series `values` (T, F).

        A feature that is constant is only shifted.
        """
        steps = torch.cat([each.double() for each in values])
        mean = steps.mean(0)
        std = (steps - mean).square().mean(0).sqrt()
        # The rounding of the mean alone makes a constant seem to vary by as much.
        constant = std <= 1e-12 * mean.abs()
        std = torch.where(constant, torch.ones_like(std), std)
        return cls(tuple(names), tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def none(cls, names: Sequence[str]) -> Scaling:
        """Return the scaling that changes nothing."""
        return cls(tuple(names), (0.0,) * len(names), (1.0,) * len(names))

    def apply(self, values: Tensor) -> Tensor:
        """Return `values` (..., F) less the mean, divided by the standard deviation."""
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def undo(self, values: Tensor) -> Tensor:
        """Return `values` (..., F) in their original units."""
        return values * values.new_tensor(self.std) + values.new_tensor(self.mean)

    def to_json(self) -> str:
        """Return the scaling as JSON."""
        return json.dumps(self._asdict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Scaling:
        """Return the scaling that `to_json` has written.

        Raises ValueError for another text.
        """
        try:
            found = json.loads(text)
            names, mean, std = (tuple(found[name]) for name in cls._fields)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not the scaling of features: {text!r:.80}") from error
        numbers = all(type(number) in (int, float) and math.isfinite(number) for number in mean)
        numbers &= all(type(n) in (int, float) and 0 < n < math.inf for n in std)
        named = all(isinstance(name, str) for name in names)
        if not (numbers and named and 0 < len(names) == len(mean) == len(std)):
            raise ValueError(
                f"a scaling needs a name, a finite mean and a positive standard deviation for each "
                f"feature, not {text!r:.80}"
            )
        return cls(names, mean, std)
