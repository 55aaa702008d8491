"""Running statistics of one channel, kept and updated as by torch's BatchNorm.

Axes: N examples, C channels, then positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..check import check_eps, check_number, check_positive, refuse_scripting
from .moments import Moments, moved, unbiased, widen
from .processes import Processes
from .recompute import is_recomputed


class Tracking(nn.modules.batchnorm._NormBase):
    """A norm whose set S contains the batch, with the arguments and buffers of torch's BatchNorm.

    It does not derive from torch's BatchNorm. ``SyncBatchNorm.convert_sync_batchnorm`` of torch
    replaces every module that does, even one that computes something else.
    """

    processes: Processes | None = None
    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        num_features = check_positive("num_features", num_features)
        check_eps(eps)
        if momentum is not None:
            check_number("momentum", momentum)
            if not 0 <= momentum <= 1:
                raise ValueError(f"momentum must lie in [0, 1] or be None, got {momentum}")
        args = (num_features, eps, momentum, affine, track_running_stats, device, dtype)
        # Older versions of torch have no argument `bias`.
        super().__init__(*args, **({} if bias else {"bias": False}))

    @property
    def by_the_batch(self) -> bool:
        """True if a call normalises by the mini-batch and not by running statistics."""
        return self.training or self.running_mean is None

    def remembered(self, dims: int) -> Moments:
        """Return the running statistics for x with this number of axes, the n unknown as 0."""
        assert self.running_mean is not None
        assert self.running_var is not None
        shape = (1, -1, *[1] * (dims - 2))
        mean, var = (widen(of).reshape(shape) for of in (self.running_mean, self.running_var))
        return Moments(mean, var, torch.zeros_like(mean))

    @torch.no_grad()
    def track(self, batch: Moments) -> None:
        """Update the running statistics by a training batch, the variance unbiased.

        Inside a backward pass, and without tracking, nothing is updated.
        """
        if not self.training or not self.track_running_stats or is_recomputed():
            return
        if self.running_mean is None or self.running_var is None:
            return
        mean, var, n = (part.flatten() for part in batch)
        calls = self.num_batches_tracked
        if calls is not None:
            calls = calls + (n > 0).any()
        weight = torch.ones_like(n)
        if self.momentum is not None:
            weight = weight * self.momentum
        elif calls is not None:
            weight = weight / calls
        weight = torch.where(n > 0, weight, 0.0)
        mean = moved(self.running_mean, mean, weight)
        var = moved(self.running_var, unbiased(var, n), weight)
        held = (self.running_mean, self.running_var, self.num_batches_tracked)
        for buffer, value in zip(held, (mean, var, calls)):
            if buffer is not None and value is not None:
                buffer.copy_(value)  # rounded once, to the precision of the buffer


# All norms with such running statistics, torch's too.
TRACKING = (nn.modules.batchnorm._BatchNorm, Tracking)


def given_to(
    norm: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """Return the input and the mask, if there is one, of a call of a norm of ``TRACKING``."""
    given = inspect.signature(norm.forward).bind(*args, **kwargs).arguments
    return next(iter(given.values())), given.get("mask")
