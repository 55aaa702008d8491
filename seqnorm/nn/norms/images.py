"""LayerNorm2d, and the functions that the norms of signals, images and volumes share.

These norms are torch's modules with a mask of valid positions. They take x (N, C, *spatial) and
``mask``, boolean, broadcastable to (N, 1, *spatial) or (N, *spatial), true where an example is
valid (``size_mask`` makes one from sizes). Padding enters no statistic and becomes 0; its values,
even NaN or infinity, affect neither results nor gradients. Without a mask torch's fused kernels
compute the same. For images, BatchNorm averages over N, H and W, InstanceNorm over H and W,
GroupNorm over H, W and the channels of a group, LayerNorm2d over C.

Axes: N examples, C channels; L of signals, H and W of images, D, H, W of volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...typed import called_as
from ..check import check_eps, check_floating, check_positive, refuse_scripting
from ..statistics.masks import position_mask
from ..statistics.moments import widen

LETTERS = ("", ", L", ", H, W", ", D, H, W")


def check_input(norm: nn.Module, x: Tensor, channels: int | None, spatial: tuple[int, ...]) -> None:
    """Raise unless x is (N, C, *), floating-point, with one of these numbers of spatial axes."""
    # `in` would compare a dynamic size by identity under torch.compile.
    if x.dim() - 2 not in spatial or (channels is not None and x.shape[1] != channels):
        forms = " or ".join(f"(N, C{LETTERS[d]})" for d in spatial)
        wanted = "" if channels is None else f" with C = {channels}"
        raise ValueError(f"{type(norm).__name__} takes {forms}{wanted}, got {tuple(x.shape)}")
    check_floating(type(norm).__name__, x)


def valid(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x in float32 at least, and 0 in the padding: 0 * NaN is NaN in backward passes too."""
    return widen(x) if mask is None else torch.where(mask, widen(x), 0.0)


def in_dtype_of(x: Tensor, parameter: Tensor | None) -> Tensor | None:
    """Return the parameter, if there is one, in the dtype of x."""
    return None if parameter is None else parameter.to(x.dtype)


def wider_sets(x: Tensor) -> str:
    """Return the end of the advice for x (N, C, *): norms whose sets have several channels."""
    channels, spatial = x.shape[1], x.dim() - 2
    if channels == 1:
        return ""
    layer = f" or LayerNorm2d({channels})" if spatial == 2 else ""
    return (
        ", or a norm whose set has several channels of one example: "
        f"GroupNorm(1, {channels}){layer}"
    )


def scale(y: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """Compute ``weight * y + bias`` for y (N, C, *), 0 in padding; both are (C,) or (N, C)."""
    positions = [1] * (y.dim() - 2)
    if weight is not None:
        y = y * weight.reshape(*weight.shape, *positions)
    if bias is not None:
        y = y + bias.reshape(*bias.shape, *positions)
    return y if mask is None else torch.where(mask, y, 0.0)


class LayerNorm2d(nn.LayerNorm):
    """S = the C channels at one position of one image, as in ConvNeXt (Liu et al. 2022).

    ``y = weight * (x - mean) / sqrt(var + eps) + bias`` for x (N, C, H, W), weight and bias (C,).
    The LayerNorm of the Group Normalization paper (Wu & He 2018, fig. 2) is another norm, whose S
    spans C, H and W: ``GroupNorm(1, C)``.

    Args:
        num_channels: C.
        eps, elementwise_affine, bias: as in ``torch.nn.LayerNorm`` (ConvNeXt's eps is 1e-6).

    Raises:
        ValueError: C is 1, so that every set has one element; x does not have C channels; or the
            mask does not fit x.
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
        """Normalise the input; ``mask`` is true at valid positions, and the others become 0."""
        check_input(self, input, self.num_channels, (2,))
        mask = position_mask(mask, input)
        wide = valid(input, mask)
        weight, bias = in_dtype_of(wide, self.weight), in_dtype_of(wide, self.bias)
        last = F.layer_norm(wide.movedim(1, -1), (self.num_channels,), weight, bias, self.eps)
        return scale(last.movedim(-1, 1), None, None, mask).to(input.dtype)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...
