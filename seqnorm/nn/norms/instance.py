"""InstanceNorm of signals, images and volumes: S = one channel of one example.

S lies within one example, so inference has the statistics of training, and nothing is tracked.

Axes: N examples, C channels; L of signals, H and W of images, D, H, W of volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_eps, check_positive, check_untracked, refuse_scripting
from ..statistics.masks import most_valid, position_mask
from ..statistics.moments import HALF, moments, normalise, widen
from .images import check_input, scale, valid, wider_sets


def instance_norm_definition(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, mask: Tensor | None
) -> Tensor:
    """What ``instance_norm`` computes, by its equation."""
    wide = valid(x, mask)
    mean, var, _ = moments(wide, range(2, x.dim()), mask)
    return scale(normalise(wide, mean, var, eps), weight, bias, mask).to(x.dtype)


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    mask: Tensor | None = None,
) -> Tensor:
    """``weight * (x - mean) / sqrt(var + eps) + bias``, S = one channel of one image.

    Args:
        x: (N, C, *).
        weight, bias: (N, C), so that every image may have its own, or None.
        mask: (N, 1, *), or None if all is valid.
    """
    N, C, *spatial = x.shape
    # torch's kernel refuses what has no position or a single one; that for a CPU loses digits to a
    # large mean in float32, which is to be no less exact for half precision than torch's own.
    inexact = x.dtype in HALF and x.device.type == "cpu"
    if mask is not None or inexact or most_valid(None, x, range(2, x.dim())) <= 1:
        return instance_norm_definition(x, weight, bias, eps, mask)
    wide = widen(x)
    # Every channel of every image is a channel of one image, whose batch statistics are its own.
    y = F.batch_norm(
        wide.reshape(1, N * C, *spatial),
        None,
        None,
        None if weight is None else weight.to(wide.dtype).flatten(),
        None if bias is None else bias.to(wide.dtype).flatten(),
        training=True,
        eps=eps,
    )
    return y.reshape(x.shape).to(x.dtype)


def check_planes(norm: nn.Module, x: Tensor, mask: Tensor | None, what: str = "planes") -> None:
    """Raise ValueError in training if the batch has valid positions, but no plane has two."""
    if norm.training and most_valid(mask, x, range(2, x.dim())) == 1:
        otherwise = wider_sets(x) if what == "planes" else ""
        raise ValueError(
            f"{type(norm).__name__} in training on {what} of one valid position: every set has "
            f"one element, whose normalised value is always 0; use larger {what}{otherwise}"
        )


class _InstanceNorm(nn.modules.instancenorm._InstanceNorm):
    """S = the valid positions of one channel of one example, whatever their dimension."""

    spatial: int
    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        num_features = check_positive("num_features", num_features)
        check_eps(eps)
        check_untracked(track_running_stats)
        # Older versions of torch have no such argument.
        options = {} if bias else {"bias": False}
        super().__init__(num_features, eps, momentum, affine, False, device, dtype, **options)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        single = input.dim() == self.spatial + 1
        x = input.unsqueeze(0) if single else input
        check_input(self, x, self.num_features, (self.spatial,))
        if mask is not None:
            mask = position_mask(mask.unsqueeze(0) if single else mask, x)
        check_planes(self, x, mask)
        shape = x.shape[:2]
        weight = None if self.weight is None else self.weight.expand(shape)
        bias = None if self.bias is None else self.bias.expand(shape)
        y = instance_norm(x, weight, bias, self.eps, mask)
        return y.squeeze(0) if single else y

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """S = the valid positions of one channel of one signal: (N, C, L), or (C, L).

    Arguments, errors and source as for ``InstanceNorm2d``.
    """

    spatial = 1


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """S = the valid positions of one channel of one image (Ulyanov et al. 2016).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for (N, C, H, W), or one image (C, H, W).
    In inference a plane of one valid position is normalised to 0 (torch refuses it there too).

    Args:
        num_features: C.
        eps, affine, bias: as in ``torch.nn.InstanceNorm2d``; bias=False needs a torch that has it.
        momentum: has no effect, as in torch's without running statistics.
        track_running_stats: has to be False.

    Raises:
        ValueError: running statistics are asked for, but S does not contain the batch; x does not
            have C channels, or the mask does not fit it; in training, no plane of the batch has
            more than one valid position (under ``torch.compile`` not seen through a mask).
    """

    spatial = 2


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """S = the valid positions of one channel of one volume: (N, C, D, H, W), or (C, D, H, W).

    Arguments, errors and source as for ``InstanceNorm2d``.
    """

    spatial = 3
