"""Texts to use a model on: rows of a table, documents of a folder, or lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqnorm.datasets.guessing import text_column_of
from seqnorm.datasets.layout import DELIMITED, ENDINGS, Quotes, check_text, read_text
from seqnorm.datasets.rows import place_of_column, read_rows, text_of

from ..checkpoints.checkpoint_file import Trained
from .text_lines import lines_of, standard_input


@dataclass
class Source:
    """Rows with a text each, read as they are needed.

    Attributes:
        columns: The names of a row's values.
        rows: The values and the text of each row.
        table: The table of a Parquet file, otherwise None.
        is_lines: True for lines of text, whose only column is "text".
        ending: The ending of the file of a table, otherwise "".
        delimiter, quotes: The separator and the meaning of quotation marks in a file with
            separators; otherwise None.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[list[Any], str]]
    table: Any = None
    is_lines: bool = False
    ending: str = ""
    delimiter: str | None = None
    quotes: Quotes | None = None
    _taken: deque[list[Any]] = field(default_factory=deque)

    def texts(self) -> Iterator[str]:
        """Yield the text of each row; ``taken`` returns the values of these rows, in order."""
        for values, text in self.rows:
            self._taken.append(values)
            yield text

    def taken(self) -> list[Any]:
        """Return the values of the next row whose text was read."""
        return self._taken.popleft()


@contextmanager
def opened(
    input: str,
    trained: Trained,
    text_column: str | None = None,
    delimiter: str | None = None,
    quotes: Quotes | None = None,
) -> Iterator[Source]:
    """Open the texts of a file or folder; - is standard input.

    Args:
        input: A table by its ending (.csv, .tsv, .jsonl, .json or .parquet), another file with a
            text a line, a folder of .txt files, or -.
        trained: The file of the model, which states the column that it was trained on.
        text_column: The column of the texts; None for that of the training, or a guess.
        delimiter, quotes: As in ``seqnorm.datasets.load_corpus``.

    Raises:
        DatasetError: The input cannot be read, or has no such column.
        ValueError: Options for tables are given for lines.
    """
    path = Path(input)
    if input != "-" and path.suffix.lower() in ENDINGS and not path.is_dir():
        yield _table(path, trained, text_column, delimiter, quotes)
        return
    options = {"text_column": text_column, "delimiter": delimiter, "quotes": quotes}
    if given := [name for name, value in options.items() if value is not None]:
        kind = "a folder of texts" if path.is_dir() else "lines of text"
        raise ValueError(f"{', '.join(given)} cannot be given for {input}, which is {kind}")
    if input == "-":
        yield _lines(standard_input())
    elif path.is_dir():
        yield _documents(path)
    else:
        with path.open("rb") as file:
            yield _lines(lines_of(file, input))


def _lines(lines: Iterator[str]) -> Source:
    return Source(("text",), (([line], line) for line in lines), is_lines=True)


def _documents(folder: Path) -> Source:
    """Return the .txt files in a folder and the folders in it, by name."""
    files = sorted(
        path
        for path in folder.rglob("*.txt")
        if not any(piece.startswith(".") for piece in path.relative_to(folder).parts)
    )
    if not files:
        tables = [path.name for path in sorted(folder.iterdir()) if path.suffix in ENDINGS]
        more = f"; give one of its tables: {', '.join(tables)}" if tables else ""
        raise ValueError(f"the folder {folder} holds no .txt files{more}")

    def rows() -> Iterator[tuple[list[Any], str]]:
        for path in files:
            text = check_text(str(path), read_text(path, empty_allowed=True))
            yield [path.relative_to(folder).as_posix()], text

    return Source(("file",), rows())


def _table(
    path: Path,
    trained: Trained,
    text_column: str | None,
    delimiter: str | None,
    quotes: Quotes | None,
) -> Source:
    data = trained.data
    if path.suffix.lower() in DELIMITED and _ending(data.get("corpus")) == path.suffix.lower():
        delimiter = delimiter or _text(data.get("delimiter"))
        quotes = quotes or _quotes(data.get("quotes"))
    column = text_column or _text(data.get("text_column"))
    if column is None:
        column = text_column_of(path, delimiter, quotes)
    found = read_rows(path, delimiter, quotes, [column])
    if text_column is None and column not in found.columns:
        raise ValueError(
            f"{path} has no column {column!r}, which the model was trained on; it has "
            f"{', '.join(map(repr, found.columns))}; name the column of the texts with "
            "--text_column"
        )
    place = place_of_column(path, column, found.columns)
    rows = ((values, text_of(where, values[place])) for where, values in found.records)
    return Source(
        found.columns,
        rows,
        found.table,
        ending=path.suffix.lower(),
        delimiter=found.delimiter,
        quotes=quotes,
    )


def _ending(corpus: object) -> str:
    return Path(corpus).suffix.lower() if isinstance(corpus, str) else ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _quotes(value: object) -> Quotes | None:
    known: Sequence[Quotes] = ("enclose", "literal")
    return next((name for name in known if name == value), None)
