"""Images and documents of the study.

Axes: N images, C channels, H, W pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import (
    TextBatch,
    TextDataset,
    Tokenizer,
    collate,
    load_corpus,
    load_digits,
    load_photographs,
    split_validation,
)

VALIDATION, TEST = 500, 1000
EVALUATED = 64
Labelled = tuple[Tensor, Tensor]


class Task(ABC):
    """Images to learn from, drawn anew in every epoch, and fixed ones to validate and test with.

    Attributes:
        classes: the number of classes.
        validation, test: images (N, C, H, W) and classes (N,).
    """

    classes = 10
    validation: Labelled
    test: Labelled

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> Labelled:
        """Return all training images as one epoch sees them."""


class DigitsOnPhotographs(Task):
    """Digits, turned at random, on random pieces of photographs (after Larochelle et al. 2007).

    A pixel is the brighter one of photograph and digit. Every epoch turns every training digit
    anew and puts it on another piece.

    Args:
        digits: (N, 28, 28) from 0 to 1.
        classes: (N,).
        photographs: (H, W) from 0 to 1.
        count: training digits, which are apart from the test digits.
        turn: the largest angle to both sides, in degrees.
    """

    def __init__(
        self,
        digits: Tensor,
        classes: Tensor,
        photographs: Sequence[Tensor],
        count: int,
        turn: float = 90.0,
    ) -> None:
        if count + VALIDATION + TEST > len(digits):
            raise ValueError(
                f"of {len(digits)} digits, {VALIDATION} validate and {TEST} test: at most "
                f"{len(digits) - VALIDATION - TEST} are left to train with, not {count}"
            )
        self.photographs = photographs
        self.turn = turn
        generator = torch.Generator().manual_seed(0)  # the same parts for every seed
        order = torch.randperm(len(digits), generator=generator)
        digits, classes = digits[order], classes[order]
        held = VALIDATION + TEST
        composed = self._compose(digits[:held], generator)
        self.validation = composed[:VALIDATION], classes[:VALIDATION]
        self.test = composed[VALIDATION:], classes[VALIDATION:held]
        self.training = digits[held : held + count], classes[held : held + count]

    def epoch(self, generator: torch.Generator) -> Labelled:
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


class Cifar10(Task):
    """CIFAR-10 (Krizhevsky 2009) through torchvision, shifted by up to 4 pixels and mirrored.

    Raises:
        ModuleNotFoundError: torchvision is missing; the message says how to install it.
    """

    def __init__(self, root: Path, count: int) -> None:
        try:
            from torchvision.datasets import CIFAR10
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "images: cifar10 needs torchvision: pip install torchvision; or write images: "
                "digits, which does not"
            ) from error
        train, test = (CIFAR10(str(root), train=part, download=True) for part in (True, False))
        images, classes = _planes(train)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        held, used = order[:VALIDATION], order[VALIDATION : VALIDATION + count]
        self.validation = images[held], classes[held]
        self.training = images[used], classes[used]
        self.test = _planes(test)

    def epoch(self, generator: torch.Generator) -> Labelled:
        images, classes = self.training
        shifted = F.pad(images, (4, 4, 4, 4))
        size = images.shape[-1]
        corner = torch.randint(9, (len(images), 2), generator=generator)
        within = torch.arange(size)
        rows = corner[:, 0, None, None] + within[:, None]
        columns = corner[:, 1, None, None] + within
        number = torch.arange(len(images))[:, None, None]
        taken = shifted.movedim(1, -1)[number, rows, columns].movedim(-1, 1)
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        return torch.where(mirrored[:, None, None, None], taken.flip(-1), taken), classes


def _planes(data: object) -> Labelled:
    pixels = torch.as_tensor(data.data)  # type: ignore[attr-defined]  # torchvision ships no types
    classes = torch.tensor(data.targets)  # type: ignore[attr-defined]  # as above
    return (pixels.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25, classes


@lru_cache(maxsize=1)
def load_task(images: str, count: int, root: str) -> Task:
    """Load the task by its name in the configuration; fetch it into ``root`` on first use.

    Raises:
        ValueError: the name is unknown.
    """
    if images == "cifar10":
        return Cifar10(Path(root), count)
    if images != "digits":
        raise ValueError(f"images {images!r} are unknown: write digits or cifar10")
    digits, classes = load_digits(root)
    grey = [picture.mean(0) for picture in load_photographs(root).values()]
    # Halved, so that a piece shows more than one even surface.
    halved = [F.avg_pool2d(picture[None], 2)[0] for picture in grey]
    return DigitsOnPhotographs(digits, classes, halved, count)


@dataclass(frozen=True)
class TextTask:
    """Encoded documents to train, validate and test with."""

    train: TextDataset
    validation: TextDataset
    test: TextDataset
    vocabulary: int
    classes: int

    def subset(self, part: TextDataset, places: Sequence[int]) -> TextBatch:
        """Return the documents at these places, padded to the longest."""
        return collate([part[place] for place in places])

    def in_order(self, part: TextDataset) -> list[TextBatch]:
        """Return all documents of a part in batches."""
        places = range(len(part))
        starts = range(0, len(part), EVALUATED)
        return [self.subset(part, places[start : start + EVALUATED]) for start in starts]


@lru_cache(maxsize=1)
def load_text_task(corpus: str, tokens: int, words: int, documents: int, root: str) -> TextTask:
    """Load a corpus with documents cut after ``tokens`` words of the ``words`` most frequent ones.

    A tenth of the training part validates; a seeded choice of ``documents`` from the rest trains.
    """
    found = load_corpus(corpus, root=root)
    train, validation = split_validation(found.train)
    tokenizer = Tokenizer.train(train.texts, vocab_size=words)
    order = torch.randperm(len(train.texts), generator=torch.Generator().manual_seed(0))
    chosen = order[:documents].tolist()
    if len(chosen) < documents:
        raise ValueError(f"{corpus} has {len(chosen)} documents to train with, not {documents}")
    return TextTask(
        TextDataset(
            tokenizer.encode([train.texts[i] for i in chosen], tokens),
            [train.labels[i] for i in chosen],
        ),
        TextDataset(tokenizer.encode(validation.texts, tokens), validation.labels),
        TextDataset(tokenizer.encode(found.test.texts, tokens), found.test.labels),
        len(tokenizer),
        len(found.classes),
    )
