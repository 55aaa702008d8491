"""Sequences with classes: digits read pixel by pixel, and utterances of different lengths."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seqnorm.datasets import Series, load_series, split_series

TESTED, VALIDATED = 397, 200  # of the 1,797 digits


class Sequences(NamedTuple):
    """Sequences (N, T, F), padded with zeros, with their lengths and classes (N,)."""

    values: Tensor
    lengths: Tensor
    classes: Tensor

    def take(self, places: Tensor) -> Sequences:
        """Return the sequences at these places, as long as the longest of them."""
        values, lengths, classes = (each[places] for each in self)
        return Sequences(values[:, : int(lengths.max())], lengths, classes)


class Task(NamedTuple):
    """Sequences in parts."""

    train: Sequences
    validation: Sequences
    test: Sequences


def digits(permuted: bool) -> Task:
    """Return scikit-learn's 8 x 8 digits, one of the 64 pixels a step, in rows from the top left.

    Args:
        permuted: read the pixels of all images in one random order.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32).flatten(1).unsqueeze(2)
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(pixels), generator=draw)
    if permuted:
        pixels = pixels[:, torch.randperm(pixels.shape[1], generator=draw)]
    train = order[TESTED + VALIDATED :]
    pixels = (pixels - pixels[train].mean()) / pixels[train].std()
    lengths = torch.full((len(pixels),), pixels.shape[1])
    whole = Sequences(pixels, lengths, torch.tensor(found.target))
    parts = (train, order[TESTED : TESTED + VALIDATED], order[:TESTED])
    return Task(*map(whole.take, parts))


def japanese_vowels(root: str) -> Task:
    """Return utterances of two vowels by nine men: 12 numbers a step, 7 to 29 steps.

    Args:
        root: folder that the corpus is fetched to.
    """
    corpus = load_series("japanese_vowels", root=root)
    assert corpus.test is not None
    train, validation = split_series(corpus.train, 0.2)
    every = torch.cat(train.values)
    mean, deviation = every.mean(0), every.std(0)

    def padded(part: Series) -> Sequences:
        values = [((each - mean) / deviation).float() for each in part.values]
        classes = [corpus.classes.index(label) for label in part.labels]
        lengths = torch.tensor([len(each) for each in values])
        return Sequences(pad_sequence(values, batch_first=True), lengths, torch.tensor(classes))

    return Task(*map(padded, (train, validation, corpus.test)))
