"""Splitting a part off, stratified by class and seeded."""

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


def stratified_choice(
    texts: Sequence[str], labels: Sequence[Hashable], fraction: float, seed: int
) -> list[bool]:
    """Which documents go to the part split off; the rule is that of `split_validation`."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie strictly between 0 and 1, not {fraction}")
    by_class: dict[Hashable, list[tuple[bytes, int]]] = defaultdict(list)
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        # A hash of the text, unlike a shuffle of positions, gives the same split on every platform
        # and version, and to a corpus to which documents were added almost the same one.
        rank = hashlib.sha256(f"{seed}:{text}".encode()).digest()
        by_class[label].append((rank, index))
    chosen = [False] * len(texts)
    for ranked in by_class.values():
        count = min(int(fraction * len(ranked) + 0.5), len(ranked) - 1)
        for _, index in sorted(ranked)[:count]:
            chosen[index] = True
    if not any(chosen):
        raise DatasetError(
            f"a fraction of {fraction} of {len(texts)} documents in {len(by_class)} classes rounds "
            "to no document of any class; take a larger fraction or give more documents"
        )
    return chosen


def _select(documents: Documents, chosen: list[bool], wanted: bool) -> Documents:
    indices = [index for index, flag in enumerate(chosen) if flag is wanted]
    return Documents(
        tuple(documents.texts[index] for index in indices),
        tuple(documents.labels[index] for index in indices),
    )
