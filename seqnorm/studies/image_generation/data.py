"""Crops of photographs, pictures as files, and the task that a network learns.

Axes: N pictures, H, W pixels.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import load_photographs
from seqnorm.models import StylisationNet

from .losses import content_loss, gram, mean_square, style_loss

# The pictures that every run is judged by are the same for all.
CROPS_SEED = 20160727
CONTRASTS = (1.0, 0.5, 0.25, 0.125)
# Test contents that are shown at full contrast.
SHOWN = 3


@functools.lru_cache(maxsize=4)
def load(names: tuple[str, ...]) -> dict[str, Tensor]:
    """Load pictures by name. A process makes many runs with the same pictures."""
    return load_photographs(names=names)


def shrink(picture: Tensor, side: int) -> Tensor:
    """Shrink a picture (3, H, W) until its shorter side has ``side`` pixels."""
    height, width = picture.shape[1:]
    factor = side / min(height, width)
    size = (round(height * factor), round(width * factor))
    small = F.interpolate(picture[None], size, mode="bilinear", antialias=True)
    return small[0].clamp(0, 1)


def crops(pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Cut squares (count, 3, size, size) from random places of random pictures."""
    places = torch.randint(len(pictures), (count,), generator=generator)
    return torch.stack([_crop(pictures[place], size, generator) for place in places.tolist()])


def crops_in_turn(
    pictures: Sequence[Tensor], count: int, size: int, generator: torch.Generator
) -> Tensor:
    """Cut squares (count, 3, size, size) from random places of each picture in turn."""
    chosen = [pictures[i % len(pictures)] for i in range(count)]
    return torch.stack([_crop(picture, size, generator) for picture in chosen])


def _crop(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    y, x = (
        int(torch.randint(length - size + 1, (), generator=generator))
        for length in picture.shape[1:]
    )
    return picture[:, y : y + size, x : x + size]


def middle(picture: Tensor, size: int) -> Tensor:
    """Cut the square (3, size, size) in the middle of a picture (3, H, W)."""
    y, x = ((length - size) // 2 for length in picture.shape[1:])
    return picture[:, y : y + size, x : x + size]


def fade(pictures: Tensor, contrast: float) -> Tensor:
    """Move every picture (N, 3, H, W) towards the mean of each of its colours."""
    mean = pictures.mean((2, 3), keepdim=True)
    return mean + contrast * (pictures - mean)


def to_png(pictures: Tensor) -> bytes:
    """Return a PNG file that shows pictures (N, 3, H, W) side by side.

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


@dataclass(frozen=True)
class Task:
    """Contents, styles, and the losses between them, which a network learns from.

    Attributes:
        features: of the losses.
        training: photographs (3, H, W) to cut contents from.
        validation, test: contents (N, 3, size, size) of other photographs.
        styles: pictures (S, 3, size, size), a piece of each style.
        grams: the Gram matrices of each style's whole picture, by style and scale.
        unit: of the content loss.
        content_weight: of the content loss, beside the style loss.
    """

    features: nn.Module
    training: Sequence[Tensor]
    validation: Tensor
    test: Tensor
    styles: Tensor
    grams: Sequence[Sequence[Tensor]]
    unit: float
    content_weight: float

    @classmethod
    def of(
        cls,
        features: nn.Module,
        photographs: Mapping[str, Sequence[Tensor]],
        styles: Sequence[Tensor],
        *,
        size: int,
        judged: int,
        content_weight: float,
    ) -> Task:
        """Make a task with ``judged`` test contents and half as many for validation.

        Args:
            photographs: by part: "training", "validation" and "test".
        """
        generator = torch.Generator().manual_seed(CROPS_SEED)
        test = crops_in_turn(photographs["test"], judged, size, generator)
        validation = crops_in_turn(photographs["validation"], judged // 2, size, generator)
        sample = crops_in_turn(photographs["training"], judged, size, generator)
        with torch.no_grad():
            grams = [[gram(f) for f in features(style[None])] for style in styles]
            unit = mean_square(features(sample))
        pieces = torch.stack([middle(style, size) for style in styles])
        return cls(
            features,
            photographs["training"],
            validation,
            test,
            pieces,
            grams,
            unit,
            content_weight,
        )

    def losses(self, redrawn: Tensor, contents: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """Return the style and the content loss (N,) of contents redrawn in these styles (N,)."""
        features = self.features(redrawn)
        with torch.no_grad():
            wanted = self.features(contents)
        scales = range(len(features))
        target = [torch.cat([self.grams[s][scale] for s in styles.tolist()]) for scale in scales]
        return style_loss(features, target), content_loss(features, wanted, self.unit)

    def total(self, style: Tensor, content: Tensor) -> Tensor:
        """Return the loss to minimise from losses (N,)."""
        return (style + self.content_weight * content).mean()


def redraw(net: StylisationNet, contents: Tensor, styles: Tensor, task: Task) -> Tensor:
    """Redraw contents (N, 3, H, W) in the styles (N,) of the task."""
    given = {"conditional": styles, "adaptive": task.styles[styles]}.get(net.norm)
    redrawn: Tensor = net(contents, given)
    return redrawn
