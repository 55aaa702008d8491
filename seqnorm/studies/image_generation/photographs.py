"""Crops of photographs, and pictures as files.

Axes: N pictures, H, W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def shrink(picture: Tensor, side: int) -> Tensor:
    """A picture (3, H, W) in the size at which its shorter side is ``side`` pixels."""
    height, width = picture.shape[1:]
    factor = side / min(height, width)
    size = (round(height * factor), round(width * factor))
    small = F.interpolate(picture[None], size, mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


def crops(pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Squares (count, 3, size, size) at random places of random pictures."""
    places = torch.randint(len(pictures), (count,), generator=generator)
    return torch.stack([_crop(pictures[place], size, generator) for place in places.tolist()])


def crops_in_turn(
    pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator
) -> Tensor:
    """Squares (count, 3, size, size) at random places of the first picture, the second, ..."""
    chosen = [pictures[i % len(pictures)] for i in range(count)]
    return torch.stack([_crop(picture, size, generator) for picture in chosen])


def _crop(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    y, x = (
        int(torch.randint(length - size + 1, (), generator=generator))
        for length in picture.shape[1:]
    )
    return picture[:, y : y + size, x : x + size]


def middle(picture: Tensor, size: int) -> Tensor:
    """The square (3, size, size) in the middle of a picture (3, H, W)."""
    y, x = ((length - size) // 2 for length in picture.shape[1:])
    return picture[:, y : y + size, x : x + size]


def fade(pictures: Tensor, contrast: float) -> Tensor:
    """Every picture (N, 3, H, W) nearer to the mean of each of its colours, itself at 1."""
    mean = pictures.mean((2, 3), keepdim=True)
    return mean + contrast * (pictures - mean)


def to_png(pictures: Tensor) -> bytes:
    """A file that shows pictures (N, 3, H, W) side by side.

    Raises:
        ModuleNotFoundError: Pillow is missing; the message says how to install it.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "pictures are written with Pillow: pip install 'seqnorm[train]'"
        ) from error
    row = torch.cat(list(pictures), 2).permute(1, 2, 0)
    pixels = (row.clamp(0, 1) * 255).round().byte().contiguous()
    image = Image.frombytes("RGB", (row.shape[1], row.shape[0]), bytes(pixels.flatten().tolist()))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()
