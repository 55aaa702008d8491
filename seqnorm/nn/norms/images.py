"""What the norms of signals, images and volumes share; LayerNorm2d.

They are torch's modules, to which a mask of valid positions is new.

All take (N, C, *spatial) and ``mask``, boolean, (N, 1, *spatial) or (N, *spatial) or whatever
broadcasts to that, true where an example is valid (``size_mask`` makes one from sizes). Padding
enters no statistic and is zero in the result; what stands there (NaN, infinity) has no influence,
on gradients neither. Without a mask the fused kernels of torch compute the same.

================  =============================  ====================================
norm              S, of images (N, C, H, W)      axes averaged over
================  =============================  ====================================
BatchNorm         one channel of the mini-batch  N, H, W
InstanceNorm      one channel of one image       H, W
GroupNorm         some channels of one image     H, W and the channels of a group
LayerNorm2d       one position of one image      C
================  =============================  ====================================

Axes: N examples, C channels; L of signals, H and W of images, D, H, W of volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_eps, check_positive, refuse_scripting
from ..statistics.masks import position_mask
from ..statistics.moments import widen

LETTERS = ("", ", L", ", H, W", ", D, H, W")


def check_input(norm: nn.Module, x: Tensor, channels: int | None, spatial: tuple[int, ...]) -> None:
    """Raise ValueError unless x is (N, C, *) with so many spatial axes, TypeError of integers."""
    # By != and not by `in`, which torch.compile answers by identity for a dynamic size.
    if x.dim() - 2 not in spatial or (channels is not None and x.shape[1] != channels):
        forms = " or ".join(f"(N, C{LETTERS[d]})" for d in spatial)
        wanted = "" if channels is None else f" with C = {channels}"
        raise ValueError(f"{type(norm).__name__} takes {forms}{wanted}, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{type(norm).__name__} takes floating-point numbers, got {x.dtype}")


def valid(x: Tensor, mask: Tensor | None) -> Tensor:
    """x at least in float32, and 0 in the padding, since 0 * NaN is NaN in a backward pass too."""
    return widen(x) if mask is None else torch.where(mask, widen(x), 0.0)


def wider_sets(x: Tensor) -> str:
    """What else normalises x (N, C, *) where a channel has one element, to close an advice."""
    channels, spatial = x.shape[1], x.dim() - 2
    if channels == 1:
        return ""
    layer = f" or LayerNorm2d({channels})" if spatial == 2 else ""
    return (
        ", or a norm whose set has several channels of one example: "
        f"GroupNorm(1, {channels}){layer}"
    )


def scale(y: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """``weight * y + bias`` for y (N, C, *), weight and bias (C,) or (N, C); 0 in the padding."""
    positions = [1] * (y.dim() - 2)
    if weight is not None:
        y = y * weight.reshape(*weight.shape, *positions)
    if bias is not None:
        y = y + bias.reshape(*bias.shape, *positions)
    return y if mask is None else torch.where(mask, y, 0.0)


class LayerNorm2d(nn.LayerNorm):
    """S = the C channels at one position of one image, as ConvNeXt has it (Liu et al. 2022).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for (N, C, H, W), weight and bias (C,). The
    LayerNorm of the Group Normalization paper (Wu & He 2018, fig. 2) is another norm: its S are all
    of C, H and W, which is ``GroupNorm(1, C)``.

    Args:
        num_channels: C.
        eps, elementwise_affine, bias: as in ``torch.nn.LayerNorm`` (ConvNeXt's eps is 1e-6).

    Raises:
        ValueError: C is 1, when every set has one element; x does not have C channels, or the mask
            does not fit it.
    """

    __prepare_scriptable__ = refuse_scripting

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        num_channels = check_positive("num_channels", num_channels)
        check_eps(eps)
        if num_channels == 1:
            raise ValueError(
                "LayerNorm2d over one channel is always 0: the set has one element; "
                "GroupNorm(1, 1) takes the whole image"
            )
        super().__init__(num_channels, eps, elementwise_affine, bias, device, dtype)
        self.num_channels = num_channels

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        check_input(self, input, self.num_channels, (2,))
        mask = None if mask is None else position_mask(mask, input)
        wide = valid(input, mask)
        weight = None if self.weight is None else self.weight.to(wide.dtype)
        bias = None if self.bias is None else self.bias.to(wide.dtype)
        last = F.layer_norm(wide.movedim(1, -1), (self.num_channels,), weight, bias, self.eps)
        return scale(last.movedim(-1, 1), None, None, mask).to(input.dtype)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...
