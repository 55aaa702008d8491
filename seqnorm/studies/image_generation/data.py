"""Crops of photographs, pictures as files, and the task that a network learns.

Axes: N pictures, H, W pixels.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import load_photographs
from seqnorm.models import StylisationNet

from .losses import RandomFeatures, content_loss, gram, mean_square, style_loss

# Every run is judged by the same pictures.
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


def crops(pictures: Iterable[Tensor], size: int, generator: torch.Generator) -> Tensor:
    """Cut a square (3, size, size) from a random place of each picture."""
    found = []
    for picture in pictures:
        room = (length - size + 1 for length in picture.shape[1:])
        y, x = (int(torch.randint(places, (), generator=generator)) for places in room)
        found.append(picture[:, y : y + size, x : x + size])
    return torch.stack(found)


def middle(picture: Tensor, size: int) -> Tensor:
    """Cut the square (3, size, size) in the middle of a picture (3, H, W)."""
    y, x = ((length - size) // 2 for length in picture.shape[1:])
    return picture[:, y : y + size, x : x + size]


def fade(pictures: Tensor, contrast: float) -> Tensor:
    """Move every picture (N, 3, H, W) towards the mean of each of its colours."""
    mean = pictures.mean((2, 3), keepdim=True)
    return mean + contrast * (pictures - mean)


def to_png(pictures: Tensor) -> bytes:
    """Return a PNG file that shows pictures (N, 3, H, W) side by side."""
    from PIL import Image

    row = torch.cat(list(pictures), 2).permute(1, 2, 0)
    pixels = (row.clamp(0, 1) * 255).round().byte().contiguous()
    stream = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(stream, "PNG", optimize=True)
    return stream.getvalue()


class Task:
    """Contents, styles, and the losses between them, which a network learns from.

    Args:
        photographs: pictures (3, H, W) by part: "training", "validation" and "test".
        styles: pictures (3, H, W).
        size: of contents and of pieces of styles.
        judged: number of test contents; half as many validate.
        content_weight: of the content loss, beside the style loss.

    Attributes:
        training: photographs to cut contents from.
        validation, test: contents (N, 3, size, size).
        styles: pictures (S, 3, size, size), a piece of each style.
    """

    def __init__(
        self,
        photographs: Mapping[str, Sequence[Tensor]],
        styles: Sequence[Tensor],
        *,
        size: int,
        judged: int,
        content_weight: float,
    ) -> None:
        self.features = RandomFeatures()
        self.training = photographs["training"]
        self.content_weight = content_weight
        generator = torch.Generator().manual_seed(CROPS_SEED)
        self.test, self.validation, sample = (
            crops(islice(cycle(photographs[part]), count), size, generator)
            for part, count in (("test", judged), ("validation", judged // 2), ("training", judged))
        )
        with torch.no_grad():
            # The Gram matrices of each style's whole picture, by style and scale.
            self.grams = [[gram(f) for f in self.features(style[None])] for style in styles]
            self.unit = mean_square(self.features(sample))
        self.styles = torch.stack([middle(style, size) for style in styles])

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
