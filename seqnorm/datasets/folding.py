"""Folds for cross-validation: each part in turn is the test part of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqnorm.extra import explained

from .documents import DatasetError


@dataclass(frozen=True)
class Fold:
    """One of several parts into which the examples of a corpus are divided.

    Args:
        number: The number of the part, from 1 to `folds`.
        folds: The number of parts.
        seed: The seed of the division.

    Raises:
        ValueError: There are fewer than two parts, or none has this number.
    """

    number: int
    folds: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if not 1 <= self.number <= self.folds:
            raise ValueError(f"fold must lie between 1 and folds={self.folds}, got {self.number}")

    def key(self, example: str) -> str:
        """Return the beginning of a text whose hash is the rank of an example."""
        # It differs from that of a validation part, so that the two choices are independent.
        return f"fold:{self.seed}:{example}"


def in_fold(
    name: str, labels: Sequence[str] | None, ranks: Sequence[bytes], fold: Fold, example: str
) -> list[bool]:
    """Return for each example whether it lies in the fold.

    The examples are ordered by their ranks and then divided by scikit-learn: by `StratifiedKFold`
    if they have labels, so that the classes are in every part as they are in the whole, and
    otherwise by `KFold`. With hashes as ranks, the division depends on the seed and on the
    examples, not on their order, and is the same on every platform.

    Args:
        name: The name of the corpus, for errors.
        labels: The class of each example, or None for a division without classes.
        ranks: The rank of each example.
        fold: The fold.
        example: The word for several examples, for errors.

    Raises:
        DatasetError: There are too few examples, in a class or in the whole.
    """
    folds = fold.folds
    if folds > len(ranks):
        raise DatasetError(
            f"{name}: {len(ranks)} {example} cannot be divided into {folds} folds; set folds to "
            f"at most {len(ranks)}"
        )
    if labels is not None:
        rarest, count = min(Counter(labels).items(), key=lambda item: (item[1], item[0]))
        if count < folds:
            # scikit-learn only warns, and leaves the class out of some parts.
            least = f"set folds to at most {count}, or " if count > 1 else ""
            raise DatasetError(
                f"{name}: the rarest class, {rarest!r}, has {count} of the {len(ranks)} {example}, "
                f"so it cannot be in each of {folds} folds; {least}give more {example} of it, or "
                "leave it out"
            )
    with explained("cross-validation"):
        from sklearn.model_selection import KFold, StratifiedKFold
    order: list[int] = sorted(range(len(ranks)), key=lambda place: (ranks[place], place))
    answers: Any = None if labels is None else [labels[place] for place in order]
    splitter: Any = KFold(folds) if labels is None else StratifiedKFold(folds)
    parts = [part for _, part in splitter.split([[0]] * len(order), answers)]
    chosen = [False] * len(order)
    for place in parts[fold.number - 1].tolist():
        chosen[order[place]] = True
    return chosen


def about(fold: Fold, chosen: int, left: int, example: str, test: int, validation: int) -> str:
    """Return a line about the division.

    Args:
        fold: The fold.
        chosen: The number of examples in it.
        left: The number of the others.
        example: The word for several examples.
        test: The number of examples in the test part of the corpus.
        validation: The number of examples in its validation part.
    """
    line = f"Fold {fold.number} of {fold.folds} is the test part: {chosen:,} of "
    line += f"{chosen + left:,} {example}"
    if validation:
        line += f", those of the validation part ({validation:,}) included"
    if test:
        line += f". The corpus's own test part ({test:,} {example}) is in no fold and is not used"
    return line
