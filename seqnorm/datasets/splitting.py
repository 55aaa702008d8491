"""Splitting a part off, stratified by class: a seeded choice, or what comes last."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

from seqnorm.datasets.documents import DatasetError, Documents


def split_validation(
    documents: Documents, fraction: float = 0.1, seed: int = 0
) -> tuple[Documents, Documents]:
    """Splits `documents` into what stays for training and a validation part.

    Of a class with n documents, `floor(fraction * n + 1/2)` go to validation but never all of them,
    so a class with one document stays in training. Which ones depends on `seed` and on the texts
    alone, not on their order. Both parts keep the order of `documents`.

    Raises ValueError for a fraction outside (0, 1), DatasetError if nothing would be split off.
    """
    chosen = stratified_choice(documents.texts, documents.labels, fraction, seed)
    return _select(documents, chosen, False), _select(documents, chosen, True)


def split_last(documents: Documents, fraction: float = 0.1) -> tuple[Documents, Documents]:
    """Splits `documents` into what stays for training and a validation part of what comes last.

    For corpora in the order of their making, whose test part is later than the rest. Of a class
    with n documents the last `round(fraction * n)` go to validation but never all of them. Both
    parts keep the order of `documents`.

    Raises ValueError for a fraction outside (0, 1), DatasetError if nothing would be split off.
    """
    _check_fraction(fraction)
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(documents.labels):
        by_class[label].append(index)
    chosen = [False] * len(documents.labels)
    for indices in by_class.values():
        count = min(round(fraction * len(indices)), len(indices) - 1)
        for index in indices[len(indices) - count :]:
            chosen[index] = True
    _check_chosen(chosen, fraction, len(by_class))
    return _select(documents, chosen, False), _select(documents, chosen, True)


def stratified_choice(
    texts: Sequence[str], labels: Sequence[Hashable], fraction: float, seed: int
) -> list[bool]:
    """Which documents go to the part split off; the rule is that of `split_validation`."""
    _check_fraction(fraction)
    by_class: dict[Hashable, list[tuple[bytes, int]]] = defaultdict(list)
    for index, (text, label) in enumerate(zip(texts, labels)):
        # A hash of the text, unlike a shuffle of positions, gives the same split on every platform
        # and version, and to a corpus to which documents were added almost the same one.
        rank = hashlib.sha256(f"{seed}:{text}".encode()).digest()
        by_class[label].append((rank, index))
    chosen = [False] * len(texts)
    for ranked in by_class.values():
        count = min(int(fraction * len(ranked) + 0.5), len(ranked) - 1)
        for _, index in sorted(ranked)[:count]:
            chosen[index] = True
    _check_chosen(chosen, fraction, len(by_class))
    return chosen


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie strictly between 0 and 1, not {fraction}")


def _check_chosen(chosen: list[bool], fraction: float, classes: int) -> None:
    if not any(chosen):
        raise DatasetError(
            f"a fraction of {fraction} of {len(chosen)} documents in {classes} classes rounds "
            "to no document of any class; take a larger fraction or give more documents"
        )


def _select(documents: Documents, chosen: list[bool], wanted: bool) -> Documents:
    indices = [index for index, flag in enumerate(chosen) if flag is wanted]
    return Documents(
        tuple(documents.texts[index] for index in indices),
        tuple(documents.labels[index] for index in indices),
    )
