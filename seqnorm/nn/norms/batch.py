"""BatchNorm of signals, images and volumes: S = one channel of all examples.

S contains the batch, so there are running statistics for inference, as in torch.

Axes: N examples, C channels; L of signals, H and W of images, D, H, W of volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_eps, check_number, check_positive, refuse_scripting
from ..statistics.masks import most_valid, position_mask
from ..statistics.moments import Moments, moments, moved, normalise, unbiased, widen
from ..statistics.processes import Processes, sharing, union
from ..statistics.recompute import is_recomputed
from .images import check_input, scale, valid, wider_sets


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """S = the valid positions of one channel of the mini-batch, whatever their dimension."""

    spatial: tuple[int, ...]
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

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise the input; ``mask`` is true at valid positions, and the others become 0."""
        check_input(self, input, self.num_features, self.spatial)
        mask = position_mask(mask, input)
        dims = (0, *range(2, input.dim()))
        shared = sharing(self.processes, self.training) is not None
        if not shared and self._by_the_batch() and most_valid(mask, input, dims) == 1:
            raise ValueError(_one_value(input, mask))
        wide = widen(input)
        held = (self.weight, self.bias, self.running_mean, self.running_var)
        alike = all(
            tensor is None or (tensor.dtype == wide.dtype and tensor.device == wide.device)
            for tensor in held
        )
        # torch counts a batch before it refuses it, so what may not fit goes to `definition`. So
        # does an empty batch, which torch would count into a cumulative average as zeros.
        if mask is None and alike and input.numel() and not shared:
            if self.training and is_recomputed():
                return self._again(wide).to(input.dtype)
            return super().forward(wide).to(input.dtype)
        return self.definition(input, mask)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _again(self, x: Tensor) -> Tensor:
        """Run torch's training forward on copies of the statistics; it saves as many tensors."""
        mean, var = (
            part.clone() if part is not None and self.track_running_stats else None
            for part in (self.running_mean, self.running_var)
        )
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, 0.0, self.eps)

    def definition(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the module's equation for x (N, C, *) and mask (N, 1, *)."""
        wide = valid(x, mask)
        if self._by_the_batch():
            dims = (0, *range(2, x.dim()))
            mean, var, n = moments(wide, dims, mask)
            processes = sharing(self.processes, self.training)
            if processes is not None:
                mean, var, n = union(Moments(mean, var, n[:, :1]), processes)
                # Read only where it may be 1, for reading waits for the GPU.
                if most_valid(mask, x, dims) <= 1 and int(n) == 1:
                    raise ValueError(_one_value(x, mask))
        else:
            assert self.running_mean is not None
            assert self.running_var is not None
            shape = (1, -1, *[1] * (x.dim() - 2))
            mean = widen(self.running_mean).reshape(shape)
            var = widen(self.running_var).reshape(shape)
        y = scale(normalise(wide, mean, var, self.eps), self.weight, self.bias, mask).to(x.dtype)
        # Tracking comes last, when nothing can fail any more.
        if self.training and self.track_running_stats and not is_recomputed():
            self._track(mean.flatten(), var.flatten(), n.flatten())
        return y

    def _by_the_batch(self) -> bool:
        return self.training or self.running_mean is None

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, n: Tensor) -> None:
        """Update the running statistics by moments (C,) of n elements, the variance unbiased."""
        if self.running_mean is None or self.running_var is None:
            return
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


def _one_value(x: Tensor, mask: Tensor | None) -> str:
    return (
        f"Expected more than 1 value per channel when training, got {tuple(x.shape)}"
        f"{'' if mask is None else ' with one valid position'}: its normalised value is always 0; "
        f"use a larger batch{wider_sets(x)}"
    )


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """S = the valid positions of one channel of the mini-batch: (N, C, L), or features (N, C).

    For arguments, errors and source see ``BatchNorm2d``. (``BatchNorm``, for sequences, can have
    statistics of every time step.)
    """

    spatial = (0, 1)


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """S = the valid positions of one channel of the mini-batch (Ioffe & Szegedy 2015, sec. 3.2).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for x (N, C, H, W), weight and bias (C,).
    S contains the batch, so inference normalises by running statistics:
    ``running = (1 - momentum) * running + momentum * batch``, the variance unbiased. A mini-batch
    without valid positions neither updates them nor counts. Nor does a pass inside a backward
    pass, such as the second one of ``torch.utils.checkpoint``, which torch's class counts twice.

    Unlike ``torch.nn.BatchNorm2d`` it takes a ``mask``, requires a momentum in [0, 1] and
    normalises half precision in float32. As it derives from torch's class,
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` silently replaces it by torch's
    ``SyncBatchNorm``, which takes no mask and trains only on a GPU;
    ``seqnorm.convert_sync_batchnorm`` keeps it.

    Args:
        num_features: C.
        eps, momentum, affine, track_running_stats, bias: as in ``torch.nn.BatchNorm2d``;
            bias=False needs a version of torch that has it.

    Raises:
        ValueError: x does not have C channels; the mask does not fit x; or a mini-batch with one
            valid position would be normalised by its own statistics (``torch.compile`` does not
            check this under a mask).
    """

    spatial = (2,)


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """S = the valid positions of one channel of the mini-batch: (N, C, D, H, W).

    For arguments, errors and source see ``BatchNorm2d``.
    """

    spatial = (3,)
