"""Answers of models: checks before prediction, and the most probable class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from seqnorm.datasets.own_files import name_of_class

from ..checkpoints.checkpoint_file import Trained

T = TypeVar("T")


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


def each_of(given: Iterable[T], name: str, several: str, single: str) -> Iterator[T]:
    """Return an iterator over the examples that were given to ``predict``.

    Args:
        given: The examples.
        name: The name of the argument.
        several: The expected examples in words.
        single: The word for one of them.

    Raises:
        TypeError: The argument is a single text, a path, a mapping, a table, or not iterable.
    """
    # Their elements are characters, keys or names of columns.
    is_one = isinstance(given, (str, bytes, os.PathLike, Mapping)) or hasattr(given, "columns")
    with suppress(TypeError):
        if not is_one:
            return iter(given)
    raise TypeError(
        f"{name} must be a list of {several}, not {type(given).__name__}; write [{single}] for a "
        "single one, and use seqnorm predict for a file"
    )


def check_names(trained: Trained, kind: str, names: Sequence[str]) -> None:
    """Refuse names of classes or targets (their ``kind``) that cannot be printed in a table.

    Raises:
        DatasetError: A name holds a control character.
    """
    for number, name in enumerate(names):
        name_of_class(f"{trained.path}, {kind} {number}", str(name))


def most_probable(classes: Sequence[str], probabilities: Sequence[float]) -> str:
    """Return the class of the highest probability, the first of several."""
    return classes[max(range(len(probabilities)), key=probabilities.__getitem__)]


def labelled(classes: Sequence[str], probabilities: Sequence[float]) -> Label:
    """Return the most probable class, and the probabilities by class."""
    return Label(most_probable(classes, probabilities), dict(zip(classes, probabilities)))
