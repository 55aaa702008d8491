"""The records of a file: fields with separators, JSON, or the rows of a Parquet table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqnorm.extra import explained

from .delimited import headers_of, read_delimited
from .documents import DatasetError
from .json_files import FORMS, read_objects
from .layout import DELIMITED, ENDINGS, Layout, no_column, read_text
from .layout import Quotes as Quotes


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
    return _read_json(path, layout.known_columns)


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
            found = [_first_keys(path, columns)]
    except (ValueError, OSError):  # pyarrow's errors and ours among them
        return True
    return any(all(names.count(column) == 1 for column in columns) for names in found)


def _first_keys(path: Path, columns: Sequence[str]) -> list[str]:
    """Return the keys of the first object in a file of JSON or JSON lines, or its columns."""
    found = read_objects(path, columns)
    if found.columns is not None:
        return list(found.columns)
    for _, record in found.records:
        return list(record)
    raise DatasetError(f"{path}: no documents")


def _read_json(path: Path, columns: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label."""
    found = read_objects(path, columns)
    for column in columns:
        if found.columns is not None and column not in found.columns:
            raise DatasetError(f"{no_column(str(path), column, found.columns[:20])}; {FORMS}")
    found.log_left_out(path)
    for where, record in found.records:
        for column in columns:
            if column not in record:
                raise DatasetError(no_column(where, column, list(record)))
        yield where, record[columns[0]], record[columns[1]]


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
