"""The records of a file: fields with separators, JSON, or the rows of a Parquet table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqnorm.extra import explained

from .delimited import headers_of, read_delimited
from .documents import DatasetError
from .layout import DELIMITED, ENDINGS, Layout, no_column, read_text
from .layout import Quotes as Quotes

FORMS = (
    "a .json file is a list of objects, an object of columns that are lists or objects of the same "
    "keys, or one object in each line"
)


def read_records(path: Path, layout: Layout) -> Iterator[tuple[str, Any, Any]]:
    """Return an iterator over the place, the text and the label of each record.

    Raises DatasetError for another kind of file, or if the columns or a record cannot be read.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DatasetError(f"{path}: a file must end in one of {', '.join(ENDINGS)}")
    if ending not in DELIMITED and (layout.delimiter or layout.quotes):
        raise DatasetError(f"{path}: delimiter and quotes are for {' and '.join(DELIMITED)} files")
    if ending == ".parquet":
        return _read_parquet(path, layout.known_columns)
    if ending in DELIMITED:
        return read_delimited(path, read_text(path), layout)
    read_json = _read_json if ending == ".json" else _read_json_lines
    return read_json(path, read_text(path), layout.known_columns)


def record_line(
    fields: Iterable[object], delimiter: str = ",", quotes: Quotes | None = None
) -> str:
    """Return a line of fields, which are set in quotation marks where it is necessary.

    If ``quotes`` is "literal", no field is set in quotation marks.

    Raises:
        ValueError: A field holds the delimiter or a line end, and ``quotes`` is "literal".
    """
    line = io.StringIO(newline="")
    # Before Python 3.13, a line end within a field is quoted only if the end of the record has it.
    ends: dict[str, Any] = {"delimiter": delimiter, "lineterminator": "\r\n"}
    if quotes != "literal":
        csv.writer(line, **ends).writerow(fields)
    else:
        shown = [str(field) for field in fields]
        for field in shown:
            if delimiter in field or "\r" in field or "\n" in field:
                raise ValueError(
                    f"the field {field!r:.50} holds a line end or the separator {delimiter!r}, "
                    "which cannot be written where quotation marks are literal; write .jsonl, "
                    ".json or .parquet"
                )
        csv.writer(line, quoting=csv.QUOTE_NONE, quotechar=None, **ends).writerow(shown)
    return line.getvalue().removesuffix("\r\n") + "\n"


def has_columns(path: Path, columns: Sequence[str], layout: Layout) -> bool:
    """Return whether a file's header or first record has the columns, with some separator.

    A file that cannot be read counts as having them, because `read_records` reports its error.
    """
    found: Sequence[Sequence[str]] = []
    try:
        if path.suffix.lower() in DELIMITED:
            found = headers_of(path, layout)
        elif path.suffix.lower() == ".parquet":
            with explained(f"reading {path}"):
                from pyarrow import parquet
            found = [parquet.read_schema(path).names]
        else:
            found = [_first_keys(read_text(path))]
    except (ValueError, OSError, RecursionError):  # pyarrow's errors and ours among them
        return True
    return any(all(names.count(column) == 1 for column in columns) for names in found)


def _first_keys(text: str) -> list[str]:
    """Return the keys of the first object in a file of JSON or JSON lines, or its columns."""
    try:
        value = json.loads(text)
    except ValueError:
        value = json.loads(text.strip().partition("\n")[0])
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return list(value)


def _read_json_lines(
    path: Path, text: str, columns: tuple[str, str]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label."""
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            yield _of_record(where, json_value(where, line), columns)


def _read_json(path: Path, text: str, columns: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label, from a file of one value.

    The value has any of the forms that pandas writes by default, as "records" or as "list". JSON
    lines are also accepted.

    Raises DatasetError for another form.
    """
    try:
        value = json_value(str(path), text)
    except DatasetError:
        try:
            json_value(str(path), text.strip().partition("\n")[0])
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
        raise DatasetError(f"{path}: {FORMS}")


def _column(path: Path, value: dict[str, Any], column: str) -> Mapping[Any, Any]:
    if column not in value:
        raise DatasetError(f"{no_column(str(path), column, list(value)[:20])}; {FORMS}")
    found = value[column]
    if isinstance(found, list):
        return dict(enumerate(found, start=1))
    if not isinstance(found, dict):
        raise DatasetError(f"{path}: {column!r} is {found!r:.50}; {FORMS}")
    return found


def _of_record(where: str, record: Any, columns: tuple[str, str]) -> tuple[str, Any, Any]:
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: not a JSON object")
    for column in columns:
        if column not in record:
            raise DatasetError(no_column(where, column, list(record)))
    return where, record[columns[0]], record[columns[1]]


def json_value(where: str, text: str) -> Any:
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
                    raise DatasetError(no_column(str(path), column, names))
            table = file.read(columns=list(columns))
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {error}") from error
    texts, labels = (table.column(column).to_pylist() for column in columns)
    for number, (text, label) in enumerate(zip(texts, labels), start=1):
        yield f"{path}, row {number}", text, label
