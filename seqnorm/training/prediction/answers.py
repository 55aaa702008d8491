"""Answers of models: checks before prediction, and the most probable class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from seqnorm.datasets.own_files import name_of_class

from ..checkpoints.checkpoint_file import Checkpoint


class Label(NamedTuple):
    """The class of a text or series.

    Attributes:
        label: The class of the highest probability.
        probabilities: The probability of every class, by its name.
    """

    label: str
    probabilities: dict[str, float]


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch without examples.

    Raises:
        ValueError: The size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_names(checkpoint: Checkpoint, kind: str, names: Sequence[str]) -> None:
    """Refuse names of classes or targets (their ``kind``) that cannot be printed in a table.

    Raises:
        DatasetError: A name holds a control character.
    """
    for number, name in enumerate(names):
        name_of_class(f"{checkpoint.path}, {kind} {number}", str(name))


def most_probable(classes: Sequence[str], probabilities: Sequence[float]) -> str:
    """Return the class of the highest probability, the first of several."""
    return classes[max(range(len(probabilities)), key=probabilities.__getitem__)]


def labelled(classes: Sequence[str], probabilities: Sequence[float]) -> Label:
    """Return the most probable class, and the probabilities by class."""
    return Label(most_probable(classes, probabilities), dict(zip(classes, probabilities)))
