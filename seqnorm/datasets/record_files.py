"""The records of a file: fields with separators, JSON, or the rows of a Parquet table."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from seqnorm.extra import explained

from .documents import DatasetError

Quotes = Literal["enclose", "literal"]
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
_FIELD_LIMIT = 2**31 - 1
# A line that spreadsheets write before the header.
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")
_log = logging.getLogger(__name__)
_DELIMITED = (".csv", ".tsv")
ENDINGS = (*_DELIMITED, ".jsonl", ".json", ".parquet")
_FORMS = (
    "a .json file is a list of objects, an object of columns that are lists or objects of the same "
    "keys, or one object in each line"
)


@dataclass(frozen=True)
class Layout:
    """Options for reading files; the arguments of `seqnorm.datasets.load_corpus`."""

    text_column: str = "text"
    label_column: str = "label"
    delimiter: str | None = None
    quotes: Quotes | None = None
    drop_unlabelled: bool = False

    @property
    def columns(self) -> tuple[str, str]:
        return self.text_column, self.label_column


def read_records(path: Path, layout: Layout) -> Iterator[tuple[str, Any, Any]]:
    """Return an iterator over the place, the text and the label of each record.

    Raises DatasetError for another kind of file, or if the columns or a record cannot be read.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DatasetError(f"{path}: a file must end in one of {', '.join(ENDINGS)}")
    if ending not in _DELIMITED and (layout.delimiter or layout.quotes):
        raise DatasetError(f"{path}: delimiter and quotes are for {' and '.join(_DELIMITED)} files")
    if ending == ".parquet":
        return _read_parquet(path, layout.columns)
    if ending in _DELIMITED:
        delimiter = check_delimiter(layout.delimiter)
        return _read_delimited(path, read_text(path), layout.columns, delimiter, layout.quotes)
    read_json = _read_json if ending == ".json" else _read_json_lines
    return read_json(path, read_text(path), layout.columns)


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


def check_delimiter(delimiter: str | None) -> str | None:
    """Return the character that the option names; raise DatasetError if it names no character."""
    if delimiter is None:
        return None
    character = DELIMITERS.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n\0':
        raise DatasetError(
            f"delimiter {delimiter!r}: give comma, semicolon, tab, pipe, or one other character"
        )
    return character


def _read_delimited(
    path: Path, text: str, columns: tuple[str, str], delimiter: str | None, quotes: Quotes | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each record, and its fields of the two columns, a text and a label.

    The default ``delimiter`` is the usual one for the file's suffix. If the header has the columns
    with exactly one other delimiter, that one is taken and logged. ``quotes`` is as in
    `seqnorm.datasets.load_corpus`.

    Raises DatasetError, which names the line, if a column is missing, if a record has too many or
    too few fields, or if quotation marks are broken or may enclose further records.
    """
    lines = list(io.StringIO(text, newline=""))
    before = 0
    if skipped := _SEPARATOR_LINE.match(text):
        delimiter, before = delimiter or skipped[1], 1
    headers = _headers(lines[before:], quotes)
    chosen = delimiter or _guessed(path, headers, columns)
    header: list[str] = []
    places = (0, 0)
    labels: set[str] = set()
    suspects: list[tuple[str, list[str]]] = []
    for number, end, fields in _records(path, lines, chosen, quotes, before):
        where = f"{path}, line {number}"
        if not header:
            header = fields
            for column in columns:
                if header.count(column) != 1:
                    raise DatasetError(_no_column_by(where, column, header, headers))
            places = header.index(columns[0]), header.index(columns[1])
            continue
        if len(fields) != len(header):
            raise DatasetError(
                f"{where}: {len(fields)} fields where the header has {len(header)}; set a field "
                "that holds separators in double quotes, or name another separator with delimiter"
            )
        label = fields[places[1]]
        if number == end:
            labels.add(label.strip())
        elif quotes is None:
            told = (
                f"{where}: a quotation mark opens a field that continues to line {end} and seems "
                "to hold further records; set quotes (--data.quotes) to literal if quotation marks "
                "are characters like any other, or to enclose if this is one field"
            )
            if chosen == "\t" and any("\t" in f and len(f.splitlines()) > 1 for f in fields):
                raise DatasetError(told)
            rows = (line.rstrip("\r\n").split(chosen) for line in lines[number - 1 : end])
            # The labels of its lines if each line were a record of its own.
            alone = [row[places[1]].strip().strip('"') for row in rows if len(row) == len(header)]
            suspects.append((told, alone))
        yield where, fields[places[0]], label
    for told, found in suspects:
        if sum(label in labels for label in found) > 1:
            raise DatasetError(told)


def _records(
    path: Path, lines: Sequence[str], delimiter: str, quotes: Quotes | None, before: int = 0
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first and the last line number and the fields of each record but empty ones."""
    marks: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if quotes == "literal" else {}
    reader = csv.reader(islice(lines, before, None), delimiter=delimiter, strict=True, **marks)
    while True:
        number = before + reader.line_num + 1
        try:
            fields = _next_record(reader)
        except csv.Error as error:
            raise DatasetError(
                f"{path}, line {number}: broken quoting in the record that begins here ({error}); "
                "set a field that holds quotes, separators or line ends in double quotes and "
                "double those inside it, or, if quotation marks are characters like any other, "
                "set quotes (--data.quotes) to literal"
            ) from error
        if fields is None:
            return
        if fields:
            yield number, before + reader.line_num, fields


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    # The limit applies to the whole process, and its default of 131,072 characters is too small for
    # long documents: it is raised for one record and restored at once.
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _headers(lines: Sequence[str], quotes: Quotes | None) -> dict[str, list[str]]:
    """Return the fields of the header for each delimiter with which it can be read."""
    found = {}
    for delimiter in dict.fromkeys(DELIMITERS.values()):
        with suppress(DatasetError):
            found[delimiter] = next(_records(Path(), lines, delimiter, quotes), (0, 0, []))[2]
    return found


def _guessed(path: Path, headers: dict[str, list[str]], columns: tuple[str, str]) -> str:
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    fits = [
        delimiter
        for delimiter, header in headers.items()
        if all(header.count(column) == 1 for column in columns)
    ]
    if usual in fits or len(fits) != 1:
        return usual
    _log.warning("%s: its header shows fields separated by %r (--data.delimiter)", path, fits[0])
    return fits[0]


def _no_column_by(
    where: str, column: str, header: list[str], by_others: dict[str, list[str]]
) -> str:
    other, names = max(by_others.items(), key=lambda found: len(found[1]))
    if len(names) <= len(header):
        return _no_column(where, column, header)
    more = f", or, separated by {other!r}, {', '.join(map(repr, names))}"
    return f"{_no_column(where, column, header, more)}, and the separator with delimiter"


def _no_column(where: str, column: str, columns: Sequence[str], more: str = "") -> str:
    """Return an error that names a missing or repeated column and lists the columns."""
    return (
        f"{where}: {'more than one' if column in columns else 'no'} column {column!r}; there are "
        f"{', '.join(map(repr, columns))}{more}; name the right ones with text_column and "
        "label_column"
    )


def _read_json_lines(
    path: Path, text: str, columns: tuple[str, str]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label."""
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            yield _of_record(where, _loaded(where, line), columns)


def _read_json(path: Path, text: str, columns: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label, from a file of one value.

    The value has any of the forms that pandas writes by default, as "records" or as "list". JSON
    lines are also accepted.

    Raises DatasetError for another form.
    """
    try:
        value = _loaded(str(path), text)
    except DatasetError:
        try:
            _loaded(str(path), text.strip().partition("\n")[0])
        except DatasetError:
            pass
        else:  # the first line is a whole value, so any error is in another line
            yield from _read_json_lines(path, text, columns)
            return
        raise
    if isinstance(value, list):
        for number, record in enumerate(value, start=1):
            where = f"{path}, record {number}"
            yield _of_record(where, record, columns)
    elif isinstance(value, dict):
        if isinstance(value.get(columns[0]), str):
            yield _of_record(f"{path}, record 1", value, columns)
            return
        texts, labels = (_column(path, value, column) for column in columns)
        if texts.keys() != labels.keys():
            raise DatasetError(
                f"{path}: the columns {columns[0]!r} and {columns[1]!r} do not have the same "
                f"entries; they have {len(texts)} and {len(labels)}"
            )
        for key, found in texts.items():
            yield f"{path}, record {key}", found, labels[key]
    else:
        raise DatasetError(f"{path}: {_FORMS}")


def _column(path: Path, value: dict[str, Any], column: str) -> Mapping[Any, Any]:
    if column not in value:
        raise DatasetError(f"{_no_column(str(path), column, list(value)[:20])}; {_FORMS}")
    found = value[column]
    if isinstance(found, list):
        return dict(enumerate(found, start=1))
    if not isinstance(found, dict):
        raise DatasetError(f"{path}: {column!r} is {found!r:.50}; {_FORMS}")
    return found


def _of_record(where: str, record: Any, columns: tuple[str, str]) -> tuple[str, Any, Any]:
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: not a JSON object")
    for column in columns:
        if column not in record:
            raise DatasetError(_no_column(where, column, list(record)))
    return where, record[columns[0]], record[columns[1]]


def _loaded(where: str, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DatasetError(f"{where}: the key {twice!r} occurs twice in one object")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except DatasetError:
        raise
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and ", line " not in where:
            where = f"{where}, line {error.lineno}"
        raise DatasetError(f"{where}: not JSON: {error}") from error


def _read_parquet(path: Path, columns: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
    with explained(f"reading {path}"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if names.count(column) != 1:
                    raise DatasetError(_no_column(str(path), column, names))
            table = file.read(columns=list(columns))
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {error}") from error
    texts, labels = (table.column(column).to_pylist() for column in columns)
    for number, (text, label) in enumerate(zip(texts, labels), start=1):
        yield f"{path}, row {number}", text, label
