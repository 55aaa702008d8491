"""InstanceNorm of signals, images and volumes: S = one channel of one example.

S lies within one example, so inference computes what training does, and nothing is tracked.

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


def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, mask: Tensor | None
) -> Tensor:
    """Compute ``weight * (x - mean) / sqrt(var + eps) + bias`` with S = one channel of one image.

    Args:
        x: (N, C, *).
        weight, bias: (N, C), one of each image, or None.
        mask: (N, 1, *), or None if everything is valid.
    """
    N, C, *spatial = x.shape
    # torch's kernel refuses x with one position or none. In float32 on a CPU it loses digits to a
    # large mean, which would make half precision less exact than torch's own.
    inexact = x.dtype in HALF and x.device.type == "cpu"
    if mask is not None or inexact or most_valid(None, x, range(2, x.dim())) <= 1:
        wide = valid(x, mask)
        mean, var, _ = moments(wide, range(2, x.dim()), mask)
        return scale(normalise(wide, mean, var, eps), weight, bias, mask).to(x.dtype)
    wide = widen(x)
    # Each channel of each image becomes a channel of one image, the batch of its own statistics.
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
    """Raise ValueError in training if planes have valid positions, but at most one each."""
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
        args = (num_features, eps, momentum, affine, False, device, dtype)
        # Older versions of torch have no argument `bias`.
        super().__init__(*args, **({} if bias else {"bias": False}))

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise the input; ``mask`` is true at valid positions, and the others become 0."""
        single = input.dim() == self.spatial + 1
        x = input.unsqueeze(0) if single else input
        check_input(self, x, self.num_features, (self.spatial,))
        mask = position_mask(mask.unsqueeze(0) if single and mask is not None else mask, x)
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

    For arguments, errors and source see ``InstanceNorm2d``.
    """

    spatial = 1


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """S = the valid positions of one channel of one image (Ulyanov et al. 2016).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for x (N, C, H, W) or one image (C, H, W),
    weight and bias (C,). In inference a plane with one valid position becomes 0 (torch refuses it).

    Args:
        num_features: C.
        eps, affine, bias: as in ``torch.nn.InstanceNorm2d``; bias=False needs a version of torch
            that has it.
        momentum: has no effect, as in torch's class without running statistics.
        track_running_stats: must be False, for S does not contain the batch.

    Raises:
        ValueError: ``track_running_stats`` is true; x does not have C channels; the mask does not
            fit x; or, in training, no plane of the batch has more than one valid position
            (``torch.compile`` does not check this under a mask).
    """

    spatial = 2


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """S = the valid positions of one channel of one volume: (N, C, D, H, W), or (C, D, H, W).

    For arguments, errors and source see ``InstanceNorm2d``.
    """

    spatial = 3
