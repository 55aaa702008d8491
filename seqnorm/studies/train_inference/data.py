"""Documents of the study, and the batches and companions in which they are asked about."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seqnorm.datasets import Documents, TextDataset, Tokenizer, load_corpus, split_validation

Order = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Parts:
    """Documents of a run as token numbers, and the numbers of tokens and classes."""

    train: TextDataset
    validation: TextDataset
    test: TextDataset
    vocab_size: int
    classes: int


@functools.cache
def load_parts(
    corpus: str, root: str, vocab_size: int, max_length: int, train: int, test: int
) -> Parts:
    """Load a corpus. The draws of training and test documents are the same for every run."""
    found = load_corpus(corpus, root=root)
    learned, validation = split_validation(found.train)
    learned, asked = some(learned, train), some(found.test, test)
    tokenizer = Tokenizer.train(learned.texts, vocab_size=vocab_size)

    def encoded(documents: Documents) -> TextDataset:
        return TextDataset(tokenizer.encode(documents.texts, max_length), documents.labels)

    return Parts(
        encoded(learned),
        encoded(validation),
        encoded(asked),
        len(tokenizer),
        len(found.classes),
    )


def some(documents: Documents, count: int) -> Documents:
    """Draw ``count`` documents, or all if there are no more, with a fixed seed."""
    order = torch.randperm(len(documents.texts), generator=generator(0))[:count].tolist()
    return Documents(
        tuple(documents.texts[index] for index in order),
        tuple(documents.labels[index] for index in order),
    )


def first(documents: TextDataset, count: int) -> TextDataset:
    """Return the first ``count`` documents, which are in random order."""
    labels = documents.labels
    return TextDataset(documents.tokens[:count], None if labels is None else labels[:count])


def generator(seed: int, also: int = 0) -> torch.Generator:
    """Return a generator whose draws follow from these numbers alone."""
    return torch.Generator().manual_seed(1_000_003 * also + seed)


def pools(lengths: Sequence[int], part: float) -> dict[str, list[int]]:
    """Return the shortest and the longest documents, each this part of all."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    count = max(2, round(part * len(order)))
    return {"short": order[:count], "long": order[-count:]}


def companions(
    targets: Sequence[int], pool: Sequence[int], count: int, draw: torch.Generator
) -> list[list[int]]:
    """Draw ``count`` documents of the pool for each target, without the target itself.

    No document is drawn twice while the pool lasts.
    """
    chosen = []
    for target in targets:
        others = [index for index in pool if index != target]
        rounds = -(-count // len(others))
        order = torch.cat([torch.randperm(len(others), generator=draw) for _ in range(rounds)])
        chosen.append([others[place] for place in order[:count].tolist()])
    return chosen


def random_batches(count: int, size: int, generator: torch.Generator) -> list[list[int]]:
    """Divide 0 to count - 1 into random batches of at most ``size``, equal up to one."""
    order = torch.randperm(count, generator=generator)
    return [part.tolist() for part in order.tensor_split(-(-count // size))]


def twice(count: int) -> list[list[int]]:
    """Put each document into a batch with a copy of itself.

    The mean of the two rows is the row and their variance 0. These are the statistics of a single
    row, which a running table does not take (``min_count``).
    """
    return [[index, index] for index in range(count)]
