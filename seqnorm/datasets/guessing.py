"""Guesses about the columns of texts and labels in a file, by their names and values.

A column called "text" or "label", in any case, is taken. Otherwise the texts are the column of
long strings that vary, and the labels the column of few values that recur. Between several such
columns, a usual name decides, such as "review" or "stars", and then texts that are at least twice
as long as the others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from .documents import DatasetError
from .layout import Layout, Quotes, is_missing, no_column, option
from .record_files import has_columns
from .rows import ABSENT, read_rows

_log = logging.getLogger(__name__)
# The number of rows that a guess is made from, drawn from the whole file.
SAMPLE = 2000
_MOST_CLASSES = 200
_LONGEST_LABEL = 40
# Usual names, in English and German.
_TEXTS: tuple[str, ...] = (
    "text",
    "review",
    "comment",
    "sentence",
    "content",
    "message",
    "body",
    "tweet",
    "document",
)
_TEXTS += ("post", "utterance", "rezension", "kommentar", "nachricht", "satz", "inhalt", "beitrag")
_LABELS: tuple[str, ...] = (
    "label",
    "class",
    "category",
    "sentiment",
    "target",
    "rating",
    "stars",
    "score",
    "topic",
)
_LABELS += ("intent", "y", "klasse", "bewertung", "kategorie", "stimmung", "thema", "sterne")


@dataclass(frozen=True)
class _Column:
    """The values of a column in the sampled rows, without those that are missing."""

    name: str
    values: tuple[Any, ...]

    @cached_property
    def strings(self) -> tuple[str, ...]:
        return tuple(str(value).strip() for value in self.values)

    @cached_property
    def distinct(self) -> int:
        return len(set(self.strings))

    @cached_property
    def length(self) -> float:
        """The mean number of characters."""
        return sum(map(len, self.strings)) / max(len(self.strings), 1)

    @property
    def is_text(self) -> bool:
        """True for strings with words that vary."""
        letters = sum(sum(map(str.isalpha, text)) for text in self.strings)
        worded = sum(" " in text or not text.isascii() for text in self.strings)
        return (
            self.varies
            and 2 * letters >= sum(map(len, self.strings))
            and 2 * worded >= len(self.values)
        )

    @property
    def varies(self) -> bool:
        """True for strings with letters of which most are different."""
        return (
            bool(self.values)
            and all(isinstance(value, str) for value in self.values)
            and 2 * self.distinct >= len(self.values)
            and any(any(map(str.isalpha, text)) for text in self.strings)
        )

    @property
    def is_label(self) -> bool:
        """True for few short values that recur, and not for numbers with a fraction."""
        return (
            2 <= self.distinct <= _MOST_CLASSES
            and 2 * self.distinct <= len(self.values)
            and self.length <= _LONGEST_LABEL
            and not any(map(_has_fraction, self.strings))
        )


def _has_fraction(text: str) -> bool:
    try:
        return not float(text.replace(",", ".")).is_integer()
    except ValueError:
        return False


def with_columns(path: Path, layout: Layout) -> Layout:
    """Return the layout with the columns of a file's texts and labels, and log a guess.

    Raises:
        DatasetError: Several columns, or none, could be meant; the error names them and the option.
    """
    if layout.text_column is not None and layout.label_column is not None:
        return layout
    usual = layout.known_columns
    if has_columns(path, usual, layout):
        return replace(layout, text_column=usual[0], label_column=usual[1])
    names, columns = _columns(path, layout.delimiter, layout.quotes, layout.columns)
    text, label = layout.columns
    text = text or _named(names, "text")
    label = label or _named(names, "label")
    others = [column for column in columns if column.name not in (text, label)]
    if text is None:
        texts = _texts(others)
        if not texts and len(others) == 1:
            texts = others
        text = _chosen(path, "text", texts, names, _TEXTS, by_length=True)
        others = [column for column in others if column.name != text]
    if label is None:
        labels = [column for column in others if column.is_label]
        labels = others if not labels and len(others) == 1 else labels
        label = _chosen(path, "label", labels, names, _LABELS)
    for column in columns:
        if column.name == label and label.strip() in column.strings:
            raise DatasetError(
                f"{path}: the first line seems to be a row and no header, because {label!r} is "
                "also a label further below; put a line of column names before it, as text,label, "
                f"or, if it is a header, name both columns ({option('text_column')}, "
                f"{option('label_column')})"
            )
    if (text, label) != layout.known_columns:
        _tell(path, f"text column {text!r}, label column {label!r}", ("text", "label"))
    return replace(layout, text_column=text, label_column=label)


def text_column_of(path: Path, delimiter: str | None = None, quotes: Quotes | None = None) -> str:
    """Return the column of a file's texts, and log a guess.

    Raises:
        DatasetError: As in ``with_columns``.
    """
    names, columns = _columns(path, delimiter, quotes)
    found = _named(names, "text")
    if found is None:
        texts = _texts(columns) or (columns if len(columns) == 1 else [])
        found = _chosen(path, "text", texts, names, _TEXTS, by_length=True)
    if found != "text":
        _tell(path, f"text column {found!r}", ("text",))
    return found


def _texts(columns: Sequence[_Column]) -> list[_Column]:
    """Return the columns of words that vary, or else those of any strings that vary."""
    return [each for each in columns if each.is_text] or [each for each in columns if each.varies]


def _columns(
    path: Path,
    delimiter: str | None,
    quotes: Quotes | None,
    known: Sequence[str | None] = (),
) -> tuple[list[str], list[_Column]]:
    """Return the names of the columns, and each column that occurs once."""
    named = [name for name in known if name is not None]
    rows = read_rows(path, delimiter, quotes, named, SAMPLE)
    names = list(rows.columns)
    for name in named:
        if name not in names:
            raise DatasetError(no_column(str(path), name, names))
    values = [values for _, values in rows.records]
    if not values:
        raise DatasetError(f"{path}: no documents")
    columns = []
    for place, name in enumerate(names):
        found = (row[place] for row in values)
        present = tuple(value for value in found if value is not ABSENT and not is_missing(value))
        if names.count(name) == 1:
            columns.append(_Column(name, present))
    return names, columns


def _named(names: Sequence[str], wanted: str) -> str | None:
    """Return the column of a name, in any case, if there is one such column."""
    found = [name for name in names if name == wanted] or [
        name for name in names if name.strip().lower() == wanted
    ]
    return found[0] if len(found) == 1 else None


def _chosen(
    path: Path,
    role: str,
    candidates: Sequence[_Column],
    names: Sequence[str],
    usual: Sequence[str],
    by_length: bool = False,
) -> str:
    if not candidates:
        raise DatasetError(
            f"{path}: no column looks like the {role}s; there are "
            f"{', '.join(map(repr, names))}; name it with {_option(role)}"
        )
    known = [column for column in candidates if column.name.strip().lower() in usual]
    if len(candidates) == 1 or len(known) == 1:
        return (candidates if len(candidates) == 1 else known)[0].name
    ranked = sorted(candidates, key=attrgetter("length"), reverse=True)
    if by_length and ranked[0].length >= 2 * ranked[1].length:
        return ranked[0].name
    shown = [repr(column.name) for column in candidates]
    raise DatasetError(
        f"{path}: the {role} column may be {', '.join(shown[:-1])} or {shown[-1]}; name it with "
        f"{_option(role)}"
    )


def _option(role: str) -> str:
    return f"{role}_column ({option(f'{role}_column')})"


def _tell(path: Path, found: str, roles: Sequence[str]) -> None:
    options = " and ".join(option(f"{role}_column") for role in roles)
    _log.warning("%s: %s; set with %s", path, found, options)
