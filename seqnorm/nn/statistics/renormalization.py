"""Batch Renormalization: BatchNorm corrected towards its running statistics (Ioffe 2017).

Axes: K steps, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..check import check_limits, check_number, have_values
from .moments import widen
from .recompute import is_recomputed
from .running_table import RunningTable


class Before(NamedTuple):
    """The running statistics and the limits on which the correction of a batch depends.

    Attributes:
        mean: (K, F) M, the running mean before the update by the batch.
        scale: (K, F) 1 / S, of the running variance.
        least_r, most_r, least_d, most_d: (K, 1) limits of r and d. Those of a step without running
            statistics are 1 and 0.
    """

    mean: Tensor
    scale: Tensor
    least_r: Tensor
    most_r: Tensor
    least_d: Tensor
    most_d: Tensor

    def steps(self) -> list[Before]:
        """Return the part of each step."""
        return [Before(*parts) for parts in zip(*[part.split(1) for part in self])]

    def of_first(self, steps: int) -> Before:
        """Return the part of the first steps."""
        return Before(*[part[:steps] for part in self])


class Renormalization(nn.Module):
    """The correction of a batch's normalised values, r and d, within limits.

    With the batch's mean m and variance v, and the running mean M and variance V before the update
    by this batch (Ioffe 2017, arXiv 1702.03275, section 3)::

        s = sqrt(v + eps)        S = sqrt(V + eps)
        r = clip(s / S, 1 / r_max, r_max)        d = clip((m - M) / S, -d_max, d_max)
        xhat = (x - m) / s * r + d

    r and d are constants for gradients. Within the limits xhat = (x - M) / S, the value in
    inference. A step without running statistics has r = 1 and d = 0.

    The buffer ``limits`` (2,) holds the present r_max and d_max. It is not part of a state dict.

    Args:
        r_max, d_max: the initial limits.
    """

    limits: Tensor
    _recalled: Before | None = None

    def __init__(
        self,
        r_max: float,
        d_max: float,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_limits(r_max, d_max)
        self.initial = float(r_max), float(d_max)
        limits = widen(torch.empty(2, device=device, dtype=dtype))
        self.register_buffer("limits", limits, persistent=False)
        self.reset()

    def reset(self) -> None:
        """Return to the initial limits."""
        self.set(*self.initial)

    @torch.no_grad()
    def set(self, r_max: float, d_max: float) -> None:
        """Replace the limits."""
        self.limits.copy_(torch.tensor([r_max, d_max], dtype=torch.float64))

    @torch.no_grad()
    def before(
        self, table: RunningTable, first: int, end: int, eps: float, eps_on: str = "var"
    ) -> Before:
        """Return what the correction of steps first to end - 1 depends on, as new tensors.

        Raises:
            RuntimeError: a backward pass computes the pass once more, after its update.
        """
        if self._recalled is not None:
            return self._recalled.of_first(end - first)
        if is_recomputed():
            raise RuntimeError(
                "Batch Renormalization reads running statistics that this pass has updated since, "
                "so a checkpoint would compute something else in the backward pass: leave the norm "
                "out of torch.utils.checkpoint; for a recurrent layer write "
                "seqnorm.compute_in_chunks(layer, steps, recompute=True), which keeps them"
            )
        here = slice(first, end)
        mean, var = table.running_mean[here], table.running_var[here]
        known = table.count[here, None] > 0
        r_max, d_max = self.limits.to(mean.dtype).unbind()
        most_r, most_d = torch.where(known, r_max, 1.0), torch.where(known, d_max, 0.0)
        scale = _deviation(var, eps, eps_on).reciprocal()
        return Before(mean.clone(), scale, most_r.reciprocal(), most_r, -most_d, most_d)

    @contextmanager
    def recalling(self, before: Before) -> Iterator[None]:
        """Correct as before inside this context, whatever the table and the limits are now."""
        self._recalled = before
        try:
            yield
        finally:
            self._recalled = None

    @torch.no_grad()
    def correction(
        self, mean: Tensor, var: Tensor, before: Before, eps: float, eps_on: str = "var"
    ) -> tuple[Tensor, Tensor]:
        """Return r and d (K, F) of steps whose rows have these moments (K, F)."""
        mean, var = mean.detach(), var.detach()  # without tangents, which no_grad keeps
        r = (_deviation(var, eps, eps_on) * before.scale).clamp(before.least_r, before.most_r)
        d = ((mean - before.mean) * before.scale).clamp(before.least_d, before.most_d)
        return r, d

    def extra_repr(self) -> str:
        if not have_values((self.limits,)):
            return ""
        r_max, d_max = self.limits.tolist()
        return f"r_max={r_max:g}, d_max={d_max:g}"


def _deviation(var: Tensor, eps: float, eps_on: str) -> Tensor:
    """Return the divisor of ``normalise``."""
    return (var + eps).sqrt() if eps_on == "var" else var.sqrt() + eps


def set_renormalization(module: nn.Module, r_max: float, d_max: float) -> None:
    """Set the limits of every norm with Batch Renormalization in ``module``.

    1 and 0 make it plain BatchNorm. Larger limits correct more of the difference between the
    batch's statistics and the running ones. In a training loop with the paper's schedule::

        seqnorm.set_renormalization(model, *seqnorm.renormalization_limits(step))

    The limits are not part of a state dict: a resumed loop sets those of its step. With Lightning
    there is the callback ``seqnorm.training.RenormalizationSchedule``.

    Args:
        module: a layer, or a network that contains norms with ``r_max`` and ``d_max``.
        r_max: largest factor r, at least 1; the smallest is 1 / r_max.
        d_max: largest shift d in running standard deviations, at least 0.

    Raises:
        ValueError: a limit is out of range, or no norm has Batch Renormalization.
        TypeError: a limit is not a number.
    """
    check_limits(r_max, d_max)
    found = [part for part in module.modules() if isinstance(part, Renormalization)]
    if not found:
        raise ValueError(
            f"no norm in {type(module).__name__} has Batch Renormalization: build it with "
            'norm="batch_renorm", or with seqnorm.preset(..., r_max=3.0, d_max=5.0), or '
            "BatchNorm(..., r_max=3.0, d_max=5.0)"
        )
    for part in found:
        part.set(r_max, d_max)


def renormalization_limits(
    step: int,
    begin: int = 5000,
    r_end: int = 40_000,
    d_end: int = 25_000,
    r_max: float = 3.0,
    d_max: float = 5.0,
) -> tuple[float, float]:
    """Return r_max and d_max at a training step, by the schedule of Ioffe 2017 (section 4).

    They are 1 and 0, plain BatchNorm, up to step ``begin``. From there they grow linearly until
    ``r_max`` is reached at step ``r_end`` and ``d_max`` at step ``d_end``, and stay. The defaults
    are the paper's; a short training needs smaller numbers.

    >>> [renormalization_limits(step) for step in (0, 5000, 15000, 25000, 40000)]
    [(1.0, 0.0), (1.0, 0.0), (1.5714285714285714, 2.5), (2.142857142857143, 5.0), (3.0, 5.0)]

    Args:
        step: the number of updates of the weights so far.
        begin, r_end, d_end: steps, 0 <= begin <= r_end and begin <= d_end.
        r_max, d_max: the final limits.

    Raises:
        ValueError: the steps are not in order, or a limit is out of range.
        TypeError: a limit is not a number.
    """
    check_limits(r_max, d_max)
    check_number("step", step)
    if not 0 <= begin <= min(r_end, d_end):
        raise ValueError(
            "the limits grow from begin to r_end and to d_end, so 0 <= begin <= r_end and "
            f"begin <= d_end, got begin={begin}, r_end={r_end}, d_end={d_end}"
        )

    def part(end: int) -> float:
        if step >= end:
            return 1.0
        return 0.0 if step <= begin else (step - begin) / (end - begin)

    return 1.0 + (r_max - 1.0) * part(r_end), d_max * part(d_end)
