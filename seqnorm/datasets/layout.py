"""The options for reading files, and checks that all formats share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .documents import DatasetError

Quotes = Literal["enclose", "literal"]
DELIMITED = (".csv", ".tsv")
ENDINGS = (*DELIMITED, ".jsonl", ".json", ".parquet")
_before = ContextVar("_before", default="--data.")


def option(name: str) -> str:
    """Return the option of the running command that sets an argument, for messages."""
    return _before.get() + name


@contextmanager
def ungrouped_options() -> Iterator[None]:
    """Name the options without their group in the block, as ``seqnorm predict`` has them."""
    token = _before.set("--")
    try:
        yield
    finally:
        _before.reset(token)


@dataclass(frozen=True)
class Layout:
    """Options for reading files; the arguments of `seqnorm.datasets.load_corpus`.

    A column that is None is still to be guessed, see `seqnorm.datasets.guessing`.
    """

    text_column: str | None = "text"
    label_column: str | None = "label"
    delimiter: str | None = None
    quotes: Quotes | None = None
    drop_unlabelled: bool = False

    @property
    def columns(self) -> tuple[str | None, str | None]:
        return self.text_column, self.label_column

    @property
    def known_columns(self) -> tuple[str, str]:
        """The columns, or "text" and "label" where none was guessed."""
        return self.text_column or "text", self.label_column or "label"


def read_text(path: Path, empty_allowed: bool = False) -> str:
    """Return the text of a UTF-8 file; raise DatasetError, with the line, for other data."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}, line {line}: not UTF-8: {error}; convert the file") from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise DatasetError(f"{path}, line {line}: a NUL character; the file is binary or damaged")
    if not (text.strip() or empty_allowed):
        raise DatasetError(f"{path}: the file is empty")
    return text


def check_text(where: str, text: str) -> str:
    """Return the text; raise DatasetError, which names `where`, if it is not valid text."""
    if "\0" in text:
        raise DatasetError(f"{where}: a NUL character; the file is binary or damaged")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where}: half of a surrogate pair is not text: {error}") from error
    return text


def is_missing(value: object) -> bool:
    """Return True for a value that stands for a missing one in tables."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def no_column(where: str, column: str, columns: Sequence[str], more: str = "") -> str:
    """Return an error that names a missing or repeated column and lists the columns."""
    return (
        f"{where}: {'more than one' if column in columns else 'no'} column {column!r}; there are "
        f"{', '.join(map(repr, columns))}{more}; name the right ones with text_column and "
        "label_column"
    )
