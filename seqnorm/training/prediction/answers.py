"""Answers of models: checks before prediction, and the most probable class."""

from __future__ import annotations

from collections.abc import Sequence

from seqnorm.datasets.own_files import name_of_class

from ..checkpoints.checkpoint_file import Checkpoint


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
