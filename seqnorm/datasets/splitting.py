"""Splitting off a part, stratified by class: a seeded choice, or the last documents."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from seqnorm.datasets.documents import DatasetError, Documents


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
    chosen = stratified_choice(documents.texts, documents.labels, fraction, seed)
    return _select(documents, chosen, False), _select(documents, chosen, True)


def split_last(documents: Documents, fraction: float = 0.1) -> tuple[Documents, Documents]:
    """Split `documents` into a training part and a validation part of the last documents.

    This suits corpora in chronological order whose test part is later than the rest. From a class
    with n documents, the last `round(fraction * n)` go to validation but never all. Both parts keep
    the order of `documents`.

    Raises ValueError for a fraction outside (0, 1), and DatasetError if the validation part would
    be empty.
    """
    count = len(documents.labels)
    chosen = _first_of_each_class(range(count, 0, -1), documents.labels, fraction, round)
    return _select(documents, chosen, False), _select(documents, chosen, True)


def stratified_choice(
    texts: Sequence[str], labels: Sequence[Hashable], fraction: float, seed: int
) -> list[bool]:
    """Return, for each document, whether it is split off, by the rule of `split_validation`."""
    # A hash of the text, unlike a shuffle of positions, gives the same split on every platform and
    # version, and almost the same split after documents are added to a corpus.
    ranks = [hashlib.sha256(f"{seed}:{text}".encode()).digest() for text in texts]
    return _first_of_each_class(ranks, labels, fraction, lambda count: int(count + 0.5))


def _first_of_each_class(
    ranks: Sequence[Any],
    labels: Sequence[Hashable],
    fraction: float,
    rounded: Callable[[float], int],
) -> list[bool]:
    """Choose a fraction of each class, the documents of the lowest ranks, but never all of them."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie strictly between 0 and 1, not {fraction}")
    by_class: dict[Hashable, list[tuple[Any, int]]] = defaultdict(list)
    for index, (rank, label) in enumerate(zip(ranks, labels)):
        by_class[label].append((rank, index))
    chosen = [False] * len(labels)
    for ranked in by_class.values():
        for _, index in sorted(ranked)[: min(rounded(fraction * len(ranked)), len(ranked) - 1)]:
            chosen[index] = True
    if not any(chosen):
        raise DatasetError(
            f"a fraction of {fraction} of {len(chosen)} documents in {len(by_class)} classes "
            "rounds to no document of any class; take a larger fraction or give more documents"
        )
    return chosen


def _select(documents: Documents, chosen: list[bool], wanted: bool) -> Documents:
    indices = [index for index, flag in enumerate(chosen) if flag is wanted]
    return Documents(
        tuple(documents.texts[index] for index in indices),
        tuple(documents.labels[index] for index in indices),
    )
