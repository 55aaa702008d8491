"""Splitting off a part, stratified by class: a seeded choice, or the last documents."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from .documents import DatasetError, Documents
from .folding import Fold, in_fold


def split_validation(
    documents: Documents, fraction: float = 0.1, seed: int = 0
) -> tuple[Documents, Documents]:
    """Split `documents` into a training and a validation part.

    From a class with n documents, `floor(fraction * n + 1/2)` go to validation but never all, so a
    class with one document stays in training. The choice depends only on `seed` and the texts, not
    on their order. Both parts keep the order of `documents`.

    Raises ValueError for a fraction outside (0, 1), and DatasetError if the validation part would
    be empty.
    """
    # A hash of the text, unlike a shuffle of positions, gives the same split on every platform and
    # version, and almost the same split after documents are added to a corpus.
    ranks = [hashlib.sha256(f"{seed}:{text}".encode()).digest() for text in documents.texts]
    return _split(documents, ranks, fraction, whole_up_from_half)


def split_last(documents: Documents, fraction: float = 0.1) -> tuple[Documents, Documents]:
    """Split `documents` into a training part and a validation part of the last documents.

    This suits corpora in chronological order whose test part is later than the rest. From a class
    with n documents, the last `round(fraction * n)` go to validation but never all. Both parts keep
    the order of `documents`.

    Raises ValueError for a fraction outside (0, 1), and DatasetError if the validation part would
    be empty.
    """
    ranks = range(len(documents.labels), 0, -1)
    return _split(documents, ranks, fraction, round)


def split_fold(
    documents: Documents, fold: Fold, name: str, classes: Sequence[str]
) -> tuple[Documents, Documents]:
    """Split `documents` into those outside of `fold` and those in it.

    The division is stratified by class and depends only on `fold.seed` and the texts. Both parts
    keep the order of `documents`.

    Args:
        documents: The documents.
        fold: The fold.
        name: The name of the corpus, for errors.
        classes: The names of the classes.

    Raises:
        DatasetError: A class has fewer documents than there are folds.
    """
    ranks = [hashlib.sha256(fold.key(text).encode()).digest() for text in documents.texts]
    labels = [classes[label] for label in documents.labels]
    return _apart(documents, in_fold(name, labels, ranks, fold, "documents"))


def whole_up_from_half(count: float) -> int:
    """Return the nearest whole number; of two, the higher one."""
    return int(count + 0.5)


def _split(
    documents: Documents, ranks: Sequence[Any], fraction: float, rounded: Callable[[float], int]
) -> tuple[Documents, Documents]:
    chosen = chosen_by_class(documents.labels, ranks, fraction, rounded, "document")
    return _apart(documents, chosen)


def _apart(documents: Documents, chosen: Sequence[bool]) -> tuple[Documents, Documents]:
    """Return the documents that are not chosen, and those that are."""
    kept, split_off = (
        Documents(tuple(compress(documents.texts, mask)), tuple(compress(documents.labels, mask)))
        for mask in ([not flag for flag in chosen], chosen)
    )
    return kept, split_off


def chosen_by_class(
    labels: Sequence[Any],
    ranks: Sequence[Any],
    fraction: float,
    rounded: Callable[[float], int],
    example: str,
) -> list[bool]:
    """Choose a fraction of each class, the examples of the lowest ranks, but never all.

    Args:
        labels: The class of each example.
        ranks: The rank of each example.
        fraction: The fraction.
        rounded: The function that returns the number of examples to choose from a class.
        example: The word for an example, in an error.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie strictly between 0 and 1, not {fraction}")
    by_class: dict[Any, list[tuple[Any, int]]] = defaultdict(list)
    for index, (rank, label) in enumerate(zip(ranks, labels)):
        by_class[label].append((rank, index))
    chosen = [False] * len(labels)
    for ranked in by_class.values():
        for _, index in sorted(ranked)[: min(rounded(fraction * len(ranked)), len(ranked) - 1)]:
            chosen[index] = True
    if not any(chosen):
        several = example if example.endswith("s") else f"{example}s"
        raise DatasetError(
            f"a fraction of {fraction} of {len(chosen)} {several} in {len(by_class)} classes "
            f"rounds to no {example} of any class; take a larger fraction or give more {several}"
        )
    return chosen
