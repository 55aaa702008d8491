"""A network that redraws pictures in the style of another picture, in one pass.

Axes: N pictures, H, W pixels; S styles, H', W' pixels of a picture that shows a style.
"""

from __future__ import annotations

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

    Three convolutions take a picture to a quarter of its height and width, residual blocks change
    it there, three more bring it back; a sigmoid keeps the result between 0 and 1. Every
    convolution but the last is followed by the norm, and all but the second of a residual block by
    a ReLU. Borders are reflected.

    With ``norm="adaptive"`` every norm takes its gain and bias from a picture that shows the style.
    Huang & Belongie 2017 read them off that picture's features in a fixed VGG, at one place; here
    a small network, trained with the rest, turns the picture into those of all places (Ghiasi et
    al. 2017): convolutions, the mean over the picture, and a linear map for each norm.

    Args:
        norm: none, batch (Johnson et al. 2016), instance (Ulyanov et al. 2016), conditional (one
            gain and bias a style, Dumoulin et al. 2017) or adaptive.
        width: channels at full resolution; there are twice as many below it.
        blocks: residual blocks.
        styles: S, for conditional alone.

    Raises:
        ValueError: an unknown norm; a width, or a number of blocks or styles below 1; several
            styles for a norm that has one, or any number of pictures.
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
                f"norm {norm!r} takes no number of styles, got styles={styles}: "
                "norm='conditional' learns several"
            )
        self.norm = norm
        inner = 2 * width

        def layer(
            channels: int, features: int, size: int = 3, *, stride: int = 1, relu: bool = True
        ) -> _Layer:
            return _Layer(
                channels, features, size, stride, _norm(norm, features, styles, inner), relu
            )

        self.encoder = nn.ModuleList(
            [layer(3, width, 5), layer(width, inner, stride=2), layer(inner, inner, stride=2)]
        )
        self.blocks = nn.ModuleList(
            _Residual(layer(inner, inner), layer(inner, inner, relu=False)) for _ in range(blocks)
        )
        self.decoder = nn.ModuleList([layer(inner, inner), layer(inner, width)])
        self.last = nn.Conv2d(width, 3, 5, padding=2, padding_mode="reflect")
        # Made last, so that of one seed the convolutions above start alike whatever the norm.
        self.reader = _StyleReader(inner) if norm == "adaptive" else None

    def forward(self, picture: Tensor, style: Tensor | None = None) -> Tensor:
        """Redraws pictures.

        Args:
            picture: (N, 3, H, W), H and W multiples of four, at least 8.
            style: for conditional, what ``ConditionalInstanceNorm2d`` takes: (N,) the number of
                each picture's style or (N, S) weights of the styles; for adaptive, pictures of the
                style, (N, 3, H', W') or (1, 3, H', W') for all, H' and W' at least 9; for other
                norms nothing.

        Returns:
            (N, 3, H, W), from 0 to 1.

        Raises:
            ValueError: a picture of another shape, of a style too; a style is missing, or given to
                a norm that has none.
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
                    f"pictures of the style must be ({len(picture)}, 3, H', W') or (1, 3, H', W'), "
                    f"got {tuple(style.shape)}"
                )
            if min(style.shape[2:]) < 9:
                raise ValueError(
                    "height and width of a picture of the style must be at least 9, got "
                    f"{tuple(style.shape[2:])}"
                )
            style = self.reader(style)
        x = picture
        for layer in self.encoder:
            x = layer(x, style)
        for block in self.blocks:
            x = block(x, style)
        for layer in self.decoder:
            x = layer(F.interpolate(x, scale_factor=2.0), style)
        redrawn: Tensor = self.last(x).sigmoid()
        return redrawn

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


class _Layer(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(
        self,
        channels: int,
        features: int,
        size: int,
        stride: int,
        norm: nn.Module | None,
        relu: bool,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, features, size, stride, size // 2, padding_mode="reflect"
        )
        self.norm = norm
        self.relu = relu

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        x = self.convolution(x)
        if isinstance(self.norm, (ConditionalInstanceNorm2d, _StyleNorm)):
            assert style is not None  # the network has asked for one
            x = self.norm(x, style)
        elif self.norm is not None:
            x = self.norm(x)
        return x.relu() if self.relu else x


def _norm(norm: str, features: int, styles: int, code: int) -> nn.Module | None:
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
    """A code (N, K) of pictures (N, 3, H', W') of styles."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, code, 5, stride=2)
        self.second = nn.Conv2d(code, code, 3, stride=2)

    def forward(self, picture: Tensor) -> Tensor:
        code: Tensor = self.second(self.first(picture).relu()).relu()
        return code.mean((2, 3))


class _StyleNorm(nn.Module):
    """AdaIN with gain and bias linear in a style's code; at first 1 and 0 for every style."""

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
    """What two layers make of their input is added to it."""

    def __init__(self, first: _Layer, second: _Layer) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        change: Tensor = self.second(self.first(x, style), style)
        return x + change
