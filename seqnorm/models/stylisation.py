"""A network that redraws pictures in the style of another picture, in one pass.

Axes: N pictures, H, W pixels; S styles, H', W' pixels of a style picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.nn import (
    AdaptiveInstanceNorm2d,
    BatchNorm2d,
    ConditionalInstanceNorm2d,
    InstanceNorm2d,
)
from seqnorm.typed import called_as

NORMS = ("none", "batch", "instance", "conditional", "adaptive")


class StylisationNet(nn.Module):
    """Encoder, residual blocks and decoder of convolutions (Johnson et al. 2016), of small width.

    Three convolutions reduce a picture to a quarter of its height and width, residual blocks change
    it there, and three more convolutions restore the size. A sigmoid keeps the result between 0 and
    1. Every convolution but the last is followed by the norm, and all but the second of a residual
    block by a ReLU. Borders are padded by reflection.

    With ``norm="adaptive"`` every norm takes its gain and bias from a style picture. Huang &
    Belongie 2017 compute them, for one norm, from the picture's features in a fixed VGG. Here a
    small network, trained with the rest, computes those of all norms (Ghiasi et al. 2017):
    convolutions, the mean over the picture, and a linear map for each norm.

    Args:
        norm: The normalisation: none, batch (Johnson et al. 2016), instance (Ulyanov et al. 2016),
            conditional (one gain and bias for each style, Dumoulin et al. 2017) or adaptive.
        width: The number of channels at full resolution; there are twice as many at lower
            resolutions.
        blocks: The number of residual blocks.
        styles: The number of styles, S, which the norm conditional alone has.

    Raises:
        ValueError: The norm is unknown; width, blocks or styles is below 1; several styles are
            given for a norm other than conditional.
    """

    def __init__(
        self, norm: str = "instance", *, width: int = 16, blocks: int = 2, styles: int = 1
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm {norm!r} is not one of {', '.join(NORMS)}")
        for name, value in (("width", width), ("blocks", blocks), ("styles", styles)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if styles > 1 and norm != "conditional":
            raise ValueError(
                f"norm {norm!r} takes no number of styles, got styles={styles}: use "
                "norm='conditional' for several"
            )
        self.norm = norm
        inner = 2 * width
        layer = partial(_Layer, partial(_norm, norm, styles, inner))
        self.encoder = nn.ModuleList(
            [layer(3, width, 5), layer(width, inner, stride=2), layer(inner, inner, stride=2)]
        )
        self.blocks = nn.ModuleList(
            _Residual(layer(inner, inner), layer(inner, inner, relu=False)) for _ in range(blocks)
        )
        self.decoder = nn.ModuleList([layer(inner, inner), layer(inner, width)])
        self.last = nn.Conv2d(width, 3, 5, padding=2, padding_mode="reflect")
        # Created last, so that a seed gives the convolutions the same weights with every norm.
        self.reader = _StyleReader(inner) if norm == "adaptive" else None

    def forward(self, picture: Tensor, style: Tensor | None = None) -> Tensor:
        """Redraw pictures.

        Args:
            picture: The pictures (N, 3, H, W), with H and W multiples of four and at least 8.
            style: The style. For conditional it is the argument of ``ConditionalInstanceNorm2d``:
                the number (N,) of each picture's style or weights (N, S) of the styles. For
                adaptive it is style pictures (N, 3, H', W'), or (1, 3, H', W') for all, with H' and
                W' at least 9. For other norms it is None.

        Returns:
            Pictures (N, 3, H, W), from 0 to 1.

        Raises:
            ValueError: A picture or style picture has another shape; a style is missing, or given
                for a norm that takes none.
        """
        if picture.dim() != 4 or picture.shape[1] != 3:
            raise ValueError(f"pictures must be (N, 3, H, W), got {tuple(picture.shape)}")
        if any(size % 4 or size < 8 for size in picture.shape[2:]):
            raise ValueError(
                "height and width must be multiples of four, at least 8, got "
                f"{tuple(picture.shape[2:])}"
            )
        if (style is not None) != (self.norm in ("conditional", "adaptive")):
            what = "needs a style" if style is None else "takes no style"
            raise ValueError(f"a network with norm {self.norm!r} {what}")
        if self.reader is not None and style is not None:
            if style.dim() != 4 or style.shape[0] not in (1, len(picture)) or style.shape[1] != 3:
                raise ValueError(
                    f"style pictures must be ({len(picture)}, 3, H', W') or (1, 3, H', W'), "
                    f"got {tuple(style.shape)}"
                )
            if min(style.shape[2:]) < 9:
                raise ValueError(
                    "height and width of a style picture must be at least 9, got "
                    f"{tuple(style.shape[2:])}"
                )
            style = self.reader(style)
        x = picture
        for module in (*self.encoder, *self.blocks):
            x = module(x, style)
        for module in self.decoder:
            x = module(F.interpolate(x, scale_factor=2.0), style)
        redrawn: Tensor = self.last(x).sigmoid()
        return redrawn

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


class _Layer(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(
        self,
        make_norm: Callable[[int], nn.Module | None],
        channels: int,
        features: int,
        size: int = 3,
        *,
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, features, size, stride, size // 2, padding_mode="reflect"
        )
        self.norm = make_norm(features)
        self.relu = relu

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        x = self.convolution(x)
        if isinstance(self.norm, (ConditionalInstanceNorm2d, _StyleNorm)):
            assert style is not None  # checked by the network
            x = self.norm(x, style)
        elif self.norm is not None:
            x = self.norm(x)
        return x.relu() if self.relu else x


def _norm(norm: str, styles: int, code: int, features: int) -> nn.Module | None:
    if norm == "batch":
        return BatchNorm2d(features)
    if norm == "instance":
        return InstanceNorm2d(features, affine=True)
    if norm == "conditional":
        return ConditionalInstanceNorm2d(features, styles)
    if norm == "adaptive":
        return _StyleNorm(features, code)
    return None


class _StyleReader(nn.Module):
    """Compute a code (N, K) of style pictures (N, 3, H', W')."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, code, 5, stride=2)
        self.second = nn.Conv2d(code, code, 3, stride=2)

    def forward(self, picture: Tensor) -> Tensor:
        code: Tensor = self.second(self.first(picture).relu()).relu()
        return code.mean((2, 3))


class _StyleNorm(nn.Module):
    """AdaIN with gain and bias linear in a style's code, initially 1 and 0 for every style."""

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        self.norm = AdaptiveInstanceNorm2d()
        self.gain = nn.Parameter(torch.zeros(features, code))
        self.bias = nn.Parameter(torch.zeros(features, code))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        weight, bias = 1 + F.linear(code, self.gain), F.linear(code, self.bias)
        y: Tensor = self.norm(x, weight=weight, bias=bias)
        return y


class _Residual(nn.Module):
    """A residual block: the output of two layers is added to their input."""

    def __init__(self, first: _Layer, second: _Layer) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        change: Tensor = self.second(self.first(x, style), style)
        return x + change
