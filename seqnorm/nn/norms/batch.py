"""BatchNorm of signals, images and volumes: S = one channel of all examples.

S contains the batch, so there are running statistics for inference, as in torch.

Axes: N examples, C channels; L of signals, H and W of images, D, H, W of volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..statistics.blending import Blending, blended
from ..statistics.masks import most_valid, position_mask
from ..statistics.moments import Moments, moments, normalise, widen
from ..statistics.processes import sharing, union
from ..statistics.recompute import is_recomputed
from ..statistics.tracking import Tracking
from .images import check_input, scale, valid, wider_sets


class _BatchNorm(Blending, Tracking, nn.modules.batchnorm._BatchNorm):
    """S = the valid positions of one channel of the mini-batch, whatever their dimension."""

    spatial: tuple[int, ...]

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise the input; ``mask`` is true at valid positions, and the others become 0."""
        check_input(self, input, self.num_features, self.spatial)
        mask = position_mask(mask, input)
        check_values(self, input, mask)
        shared = sharing(self.processes, self.training) is not None
        wide = widen(input)
        held = (self.weight, self.bias, self.running_mean, self.running_var)
        alike = all(
            tensor is None or (tensor.dtype == wide.dtype and tensor.device == wide.device)
            for tensor in held
        )
        # torch counts a batch before it refuses it, so what may not fit goes to `definition`. So
        # does an empty batch, which torch would count into a cumulative average as zeros.
        blends = self.share is not None and not self.by_the_batch
        if mask is None and alike and input.numel() and not shared and not blends:
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
        if self.by_the_batch:
            batch = united(self, moments(wide, (0, *range(2, x.dim())), mask), x, mask)
        else:
            batch = self.remembered(x.dim())
            if self.share is not None:
                if x.dim() == 2:
                    raise ValueError(
                        f"fit_eval_norm has fitted this {type(self).__name__} to examples of many "
                        f"positions, and those of {tuple(x.shape)} have one, whose variance is 0: "
                        "undo the fit with del norm.example_share"
                    )
                batch = blended(moments(wide, range(2, x.dim()), mask), batch, self.share)
        y = normalise(wide, batch.mean, batch.var, self.eps)
        y = scale(y, self.weight, self.bias, mask).to(x.dtype)
        self.track(batch)  # last, when nothing can fail any more
        return y


def check_values(norm: Tracking, x: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError if the norm would use the statistics of one value of this process alone."""
    if not norm.by_the_batch or sharing(norm.processes, norm.training) is not None:
        return
    if most_valid(mask, x, (0, *range(2, x.dim()))) == 1:
        raise ValueError(_one_value(x, mask))


def united(norm: Tracking, own: Moments, x: Tensor, mask: Tensor | None) -> Moments:
    """Return the moments of the batches of all processes with which the norm shares.

    Args:
        own: moments (1, C, *) of this process's batch, x under the mask.

    Raises:
        ValueError: they share, and the batches hold one value together.
    """
    processes = sharing(norm.processes, norm.training)
    if processes is None:
        return own
    batch = union(own._replace(n=own.n[:, :1]), processes)
    # Read only where it may be 1, for reading waits for the GPU.
    if most_valid(mask, x, (0, *range(2, x.dim()))) <= 1 and int(batch.n) == 1:
        raise ValueError(_one_value(x, mask))
    return batch


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
    ``seqnorm.convert_sync_batchnorm`` keeps it. ``fit_eval_norm`` changes its inference.

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
