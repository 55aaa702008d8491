"""Series of numbers with their labels or targets, and options for reading them.

Letters: N series, T steps of one of them, F features, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from ..documents import DatasetError
from ..layout import is_missing, option
from ..own_files import label_of

# The answer that a task needs beside each series; None if there is nothing to learn from it.
Answer = Literal["label", "targets"]
LABELS = ("label", "labels", "class")
TARGETS = ("target", "targets")


class Series(NamedTuple):
    """Parallel tuples: `values[i]` (T, F) in float64 is the series with the id `ids[i]`.

    `labels[i]` is its class, or `targets[i]` has its K numbers; the other tuple is empty, and both
    are if nothing is known about the series.
    """

    ids: tuple[str, ...]
    values: tuple[Tensor, ...]
    labels: tuple[str, ...] = ()
    targets: tuple[tuple[float, ...], ...] = ()

    def at(self, places: Sequence[int]) -> Series:
        """Return the series at these places."""
        return Series(
            tuple(self.ids[place] for place in places),
            tuple(self.values[place] for place in places),
            tuple(self.labels[place] for place in places if self.labels),
            tuple(self.targets[place] for place in places if self.targets),
        )

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each series."""
        return [len(values) for values in self.values]


@dataclass(frozen=True)
class SeriesFile:
    """The contents of a file: the names of F features and K targets, the series, and a line.

    `told` says which columns or arrays were taken for ids, times, features and answers.
    """

    features: tuple[str, ...]
    targets: tuple[str, ...]
    series: Series
    told: str


@dataclass(frozen=True)
class SeriesCorpus:
    """Series in parts. `test` and `validation` are None if there is no such part.

    `features` and `targets` are names. `told` is that of `SeriesFile`, and `notice` gives source,
    licence and citation.
    """

    name: str
    features: tuple[str, ...]
    targets: tuple[str, ...]
    train: Series
    validation: Series | None = None
    test: Series | None = None
    told: str = ""
    notice: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the training part, sorted."""
        return tuple(sorted({*self.train.labels}))


@dataclass(frozen=True)
class SeriesLayout:
    """Options for reading series from your own files.

    `answer` tells what is read beside each series. Columns that are None are guessed, and so are
    the features, as all others. `wanted` are the features of a model: they are chosen in a file
    that names its features, unless `feature_columns` states others. `trained_id` and `trained_time`
    are the columns of a model's training data: a file that has them needs no guess.
    """

    answer: Answer | None = "label"
    id_column: str | None = None
    time_column: str | None = None
    feature_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    target_columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    wanted: tuple[str, ...] | None = None
    trained_id: str | None = None
    trained_time: str | None = None

    @property
    def chosen_features(self) -> tuple[str, ...] | None:
        """The features to choose in a file that names its features, None for all."""
        return self.wanted if self.feature_columns is None else self.feature_columns

    def id_in(self, names: Sequence[str]) -> str | None:
        """Return the column of the ids if it is given, or that of the training if it is there."""
        return _given_or_there(self.id_column, self.trained_id, names)

    def time_in(self, names: Sequence[str]) -> str | None:
        """Return the column of the times if it is given, or that of the training if it is there."""
        return _given_or_there(self.time_column, self.trained_time, names)

    def answers(self, path: Path, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the label or the targets.

        Raises DatasetError if one is missing or cannot be guessed.
        """
        if self.answer is None:
            return ()
        if self.answer == "targets":
            if self.target_columns is not None:
                return tuple(known(path, name, names, "targets") for name in self.target_columns)
            return (guess(path, names, TARGETS, "target_columns"),)
        if self.label_column is not None:
            return (known(path, self.label_column, names, "label"),)
        return (guess(path, names, LABELS, "label_column"),)


def _given_or_there(given: str | None, trained: str | None, names: Sequence[str]) -> str | None:
    return trained if given is None and trained in names else given


def guess(path: Path, names: Sequence[str], usual: Sequence[str], argument: str) -> str:
    """Return the one column with a usual name, in any case of its letters.

    Raises DatasetError, which names the argument of the column, unless there is exactly one.
    """
    found = [name for name in names if name.lower() in usual]
    if len(found) == 1:
        return found[0]
    several = f"{', '.join(map(repr, found))} may each be" if found else "it is not clear which is"
    raise DatasetError(
        f"{path}: {several} the {argument.replace('_columns', '').replace('_column', '')} among "
        f"{shown(names)}; name it with {argument} ({option(argument)})"
    )


def known(path: Path, name: str, names: Sequence[str], role: str) -> str:
    """Return the name of a column; raise DatasetError if there is not exactly one."""
    if names.count(name) != 1:
        number = "more than one" if name in names else "no"
        raise DatasetError(f"{path}: {number} column {name!r} ({role}); there are {shown(names)}")
    return name


def shown(names: Sequence[str]) -> str:
    """Return names for a message, at most twenty."""
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")


def told(path: Path, roles: Mapping[str, Sequence[str]]) -> str:
    """Return which columns a file's ids, times, features and answers were read from."""
    parts = [f"{role} {shown(names)}" for role, names in roles.items() if names]
    return f"{path.name}: {'; '.join(parts)}"


def check_label(where: str, label: object, column: str) -> str:
    """Return the name of a class; raise DatasetError, which names `where`, for other values."""
    if is_missing(label):
        raise DatasetError(
            f"{where}: the label ({column!r}) is missing; add it, or leave the series out"
        )
    return label_of(where, label, column)


def check_ids(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids; raise DatasetError if one occurs twice or there is no series."""
    if not ids:
        raise DatasetError(f"{path}: no series")
    if len({*ids}) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DatasetError(f"{path}: more than one series has the id {twice!r}")
    return tuple(ids)
