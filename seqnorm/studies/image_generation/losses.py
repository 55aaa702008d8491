"""Distances of a picture from a style and from a content, by fixed features.

The Gram matrices of the features describe a style: they say which features occur together, but not
where (Gatys et al. 2015). The places of the features of a coarse scale describe a content. Shallow
random filters at several scales suffice for textures (Ustyuzhaninov et al. 2017) and need no
weights from elsewhere, as VGG does, which Gatys, Johnson and Ulyanov used.

Axes: N pictures, C features, H, W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 7
FILTERS = 32
# All runs are measured with the same filters.
SEED = 20151117


class RandomFeatures(nn.Module):
    """Rectified responses to random filters, and the colours, at full, half and quarter size.

    The filters, 7 x 7 pixels of all colours, are drawn from a normal distribution. Their mean over
    each colour is removed, so that they see patterns and not brightness, and their norm is 1.
    """

    filters: Tensor

    def __init__(self, scales: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        filters = torch.randn(FILTERS, 3, SIZE, SIZE, generator=generator)
        filters = filters - filters.mean((2, 3), keepdim=True)
        filters = filters / filters.flatten(1).norm(dim=1)[:, None, None, None]
        self.register_buffer("filters", filters)
        self.scales = scales

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Compute the features (N, C, H, W) of each scale from pictures (N, 3, H, W)."""
        found = []
        x = pictures - 0.5
        border = SIZE // 2
        for scale in range(self.scales):
            if scale:
                x = F.avg_pool2d(x, 2)
            colours = x[:, :, border:-border, border:-border]
            found.append(torch.cat([F.conv2d(x, self.filters).relu(), colours], 1))
        return found


def gram(features: Tensor) -> Tensor:
    """Compute ``G[c, d] = mean over positions of f_c f_d``: (N, C, C) from (N, C, H, W)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def style_loss(features: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Compute ``mean over scales of |G - G_style|^2 / |G_style|^2`` of each picture (N,).

    ``style`` has the Gram matrices (N or 1, C, C) of the style, by scale. A picture that equals
    them has loss 0, a picture without any features loss 1.
    """
    losses = [
        ((gram(f) - target) ** 2).sum((1, 2)) / (target**2).sum((1, 2))
        for f, target in zip(features, style)
    ]
    return torch.stack(losses).mean(0)


def content_loss(features: Sequence[Tensor], contents: Sequence[Tensor], unit: float) -> Tensor:
    """Compute ``mean (f - f_content)^2 / unit`` at the coarsest scale of each picture (N,).

    With the mean square of a photograph's features as unit, a picture without any features has
    loss 1 on average.
    """
    return ((features[-1] - contents[-1]) ** 2).mean((1, 2, 3)) / unit


def mean_square(contents: Sequence[Tensor]) -> float:
    """Return the unit of the content loss from the features of some photographs."""
    value = float((contents[-1] ** 2).mean())
    if not value > 0 or math.isinf(value):
        raise ValueError("the photographs have no features: they are blank")
    return value
