"""Images of the study: digits on photographs.

Axes: N images, C channels, H, W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import load_digits, load_photographs

VALIDATION, TEST = 500, 1000
CLASSES = 10
Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W) and classes (N,)


class DigitsOnPhotographs:
    """Digits, turned at random, on random pieces of photographs (after Larochelle et al. 2007).

    A pixel is the brighter one of photograph and digit. Every epoch turns every training digit
    anew and puts it on another piece. The images of ``validation`` and ``test`` are fixed.
    """

    def __init__(
        self,
        digits: Tensor,  # (N, 28, 28) from 0 to 1
        classes: Tensor,  # (N,)
        photographs: Sequence[Tensor],  # (H, W) from 0 to 1
        count: int,  # of training digits, which are apart from the test digits
        turn: float = 90.0,  # the largest angle to both sides, in degrees
    ) -> None:
        held = VALIDATION + TEST
        if count + held > len(digits):
            raise ValueError(
                f"of {len(digits)} digits, {VALIDATION} validate and {TEST} test: at most "
                f"{len(digits) - held} are left to train with, not {count}"
            )
        self.photographs, self.turn = photographs, turn
        generator = torch.Generator().manual_seed(0)  # the same parts for every seed
        order = torch.randperm(len(digits), generator=generator)
        digits, classes = digits[order], classes[order]
        composed = self._compose(digits[:held], generator)
        self.validation: Labelled = composed[:VALIDATION], classes[:VALIDATION]
        self.test: Labelled = composed[VALIDATION:], classes[VALIDATION:held]
        self.training = digits[held : held + count], classes[held : held + count]

    def epoch(self, generator: torch.Generator) -> Labelled:
        """Return all training images as one epoch sees them."""
        digits, classes = self.training
        return self._compose(digits, generator), classes

    def _compose(self, digits: Tensor, generator: torch.Generator) -> Tensor:
        turned = rotated(digits, self.turn, generator)
        pieces = random_pieces(self.photographs, len(digits), digits.shape[1], generator)
        # About mean 0 and variance 1.
        return (torch.maximum(turned, pieces)[:, None] - 0.45) / 0.3


def rotated(images: Tensor, turn: float, generator: torch.Generator) -> Tensor:
    """Turn every image (N, H, W) by an angle drawn between -turn and turn degrees."""
    angle = (2 * torch.rand(len(images), generator=generator) - 1) * math.radians(turn)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], 1).reshape(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def random_pieces(
    photographs: Sequence[Tensor], count: int, size: int, generator: torch.Generator
) -> Tensor:
    """Cut squares (count, size, size) from random places of random photographs (H, W)."""
    which = torch.randint(len(photographs), (count,), generator=generator)
    place = torch.rand(count, 2, generator=generator)
    pieces = torch.empty(count, size, size)
    within = torch.arange(size)
    for number, photograph in enumerate(photographs):
        mine = which == number
        room = torch.tensor(photograph.shape) - size + 1
        corner = (place[mine] * room).long()
        rows = corner[:, 0, None, None] + within[:, None]
        pieces[mine] = photograph[rows, corner[:, 1, None, None] + within]
    return pieces


@lru_cache(maxsize=1)
def load_images(count: int, root: str) -> DigitsOnPhotographs:
    """Load digits and photographs; fetch them into ``root`` on first use."""
    digits, classes = load_digits(root)
    grey = [picture.mean(0) for picture in load_photographs(root).values()]
    # Halved, so that a piece shows more than one even surface.
    halved = [F.avg_pool2d(picture[None], 2)[0] for picture in grey]
    return DigitsOnPhotographs(digits, classes, halved, count)
