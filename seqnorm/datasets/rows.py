"""Whole rows of the files that `seqnorm.datasets.own_files` describes, with all columns."""

from __future__ import annotations

import logging
import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seqnorm.extra import explained

from .delimited import (
    DELIMITERS,
    SEPARATOR_LINE,
    check_delimiter,
    records_of,
    usual_delimiter,
)
from .documents import DatasetError
from .json_files import read_objects
from .layout import DELIMITED, ENDINGS, Quotes, check_text, is_missing, no_column, option, read_text

_log = logging.getLogger(__name__)
_Row = TypeVar("_Row")


class Absent:
    """The value of a column that a JSON object does not have."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


class Rows(NamedTuple):
    """The names of the columns, and the place and the values of each row.

    Attributes:
        columns: The names that the header is known to have.
        records: The rows, read as they are needed where the format allows it.
        table: The table of a Parquet file, otherwise None.
        delimiter: The separator of a file with separators, otherwise None.
    """

    columns: tuple[str, ...]
    records: Iterator[tuple[str, list[Any]]]
    table: Any = None
    delimiter: str | None = None


def read_rows(
    path: Path,
    delimiter: str | None = None,
    quotes: Quotes | None = None,
    columns: Sequence[str] = (),
    sample: int | None = None,
) -> Rows:
    """Read the rows of a file, or a ``sample`` of them.

    Args:
        path: The file.
        delimiter, quotes: As in `seqnorm.datasets.load_corpus`. Without a delimiter, it is the one
            that divides the lines evenly and whose header has all ``columns``.
        columns: The names that the header is known to have.
        sample: The number of rows, which are drawn from the whole file and stay in its order; None
            for all rows. The same file has the same sample.

    Raises:
        DatasetError: The file cannot be read; the error names the line.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DatasetError(f"{path}: a file must end in one of {', '.join(ENDINGS)}")
    if ending not in DELIMITED and (delimiter or quotes):
        raise DatasetError(f"{path}: delimiter and quotes are for {' and '.join(DELIMITED)} files")
    if ending == ".parquet":
        return _of_parquet(path, sample)
    if ending in DELIMITED:
        return _of_fields(path, check_delimiter(delimiter), quotes, columns, sample)
    return _of_objects(path, columns, sample)


def place_of_column(path: Path, column: str, columns: Sequence[str]) -> int:
    """Return the place of a column; raise DatasetError if it occurs never or twice."""
    if columns.count(column) != 1:
        raise DatasetError(no_column(str(path), column, columns))
    return columns.index(column)


def text_of(where: str, value: object) -> str:
    """Return the text in a field, "" for a missing one; raise DatasetError for another value."""
    if value is ABSENT or is_missing(value):
        return value if isinstance(value, str) else ""
    if not isinstance(value, str):
        raise DatasetError(f"{where}: the text must be a string, not {value!r:.50}")
    return check_text(where, value)


def lines_with_ends(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their ends, as they are needed."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise DatasetError(
                        f"{path}, line {number}: a NUL character; the file is binary or damaged"
                    )
                yield line
    except UnicodeDecodeError:
        read_text(path)  # raises the error with the line
        raise


def _of_fields(
    path: Path,
    delimiter: str | None,
    quotes: Quotes | None,
    columns: Sequence[str],
    sample: int | None,
) -> Rows:
    start = list(islice(lines_with_ends(path), 500))
    if not "".join(start).strip():
        read_text(path)  # raises an error for an empty file
    before = 0
    if start and (separated := SEPARATOR_LINE.match(start[0])):
        delimiter, before = delimiter or separated[1], 1
    if delimiter is None:
        delimiter = even_delimiter(path, start[before:], quotes, columns)
    records = records_of(path, lines_with_ends(path), delimiter, quotes, before)
    number, _, header = next(records, (1, 1, []))

    def rows() -> Iterator[tuple[str, list[Any]]]:
        warned = sample is not None or quotes is not None
        for number, end, fields in records:
            where = f"{path}, line {number}"
            if len(fields) != len(header):
                raise DatasetError(wrong_number(where, len(fields), len(header)))
            if end > number and not warned and _may_hold_rows(fields, delimiter):
                warned = True
                _log.warning(
                    "%s: a field in quotation marks continues to line %d and holds lines that look "
                    "like rows; if quotation marks are characters like any other, set %s "
                    "literal",
                    *(where, end, option("quotes")),
                )
            yield where, list(fields)

    if not header:
        raise DatasetError(f"{path}, line {number}: the file has no header")
    found = rows() if sample is None else iter(_drawn(rows(), sample))
    return Rows(tuple(header), found, delimiter=delimiter)


def _drawn(rows: Iterable[_Row], number: int) -> list[_Row]:
    """Draw ``number`` of the rows, or all if there are fewer, and keep their order.

    Rows are drawn and not taken at equal distances, at which a file whose classes alternate would
    show a single class.
    """
    draw = random.Random(0)
    kept: list[tuple[int, _Row]] = []
    for place, row in enumerate(rows):
        if place < number:
            kept.append((place, row))
        elif (slot := draw.randrange(place + 1)) < number:
            kept[slot] = place, row
    return [row for _, row in sorted(kept, key=itemgetter(0))]


def _may_hold_rows(fields: Sequence[str], delimiter: str) -> bool:
    """Return whether a field has a whole line with as many separators as a row has."""
    rows = [line for field in fields for line in field.split("\n")[1:-1]]
    return len(fields) > 1 and any(line.count(delimiter) == len(fields) - 1 for line in rows)


def wrong_number(where: str, found: int, expected: int) -> str:
    """Return the error for a row of too many or too few fields."""
    return (
        f"{where}: {found} fields where the header has {expected}; set a field that holds "
        "separators in double quotes, or name another separator with delimiter"
    )


def even_delimiter(
    path: Path, lines: Sequence[str], quotes: Quotes | None, columns: Sequence[str] = ()
) -> str:
    """Return the separator that divides the header and most of the ``lines`` alike.

    The usual one of the file's ending is taken if no other one is better. The last record may be
    cut, and does not count.
    """
    usual = usual_delimiter(path)
    shares: dict[str, tuple[float, int]] = {}
    for delimiter in dict.fromkeys([usual, *DELIMITERS.values()]):
        counts: list[int] = []
        header: list[str] = []
        try:
            for _, _, fields in records_of(path, lines, delimiter, quotes):
                header = header or fields
                counts.append(len(fields))
        except DatasetError:  # quotation marks that mean nothing with this separator
            if len(counts) < 2:
                continue
        if len(header) < 2 or not all(header.count(column) == 1 for column in columns):
            continue
        rest = counts[1:-1] or counts[1:]
        even = sum(count == len(header) for count in rest) / len(rest) if rest else 1.0
        shares[delimiter] = even, len(header)
    if not shares and columns:  # what the columns are called decides nothing
        return even_delimiter(path, lines, quotes)
    if not shares or shares.get(usual, (0.0, 0))[0] == 1.0:
        return usual
    return max(shares, key=lambda delimiter: shares[delimiter])


def _of_objects(path: Path, columns: Sequence[str], sample: int | None) -> Rows:
    """Read the rows of a file of JSON, in any form that `own_files` lists."""
    read = read_objects(path, columns)
    if sample is None:
        read.log_left_out(path)
    found = list(read.records)
    names = dict.fromkeys(chain.from_iterable(record for _, record in found))
    chosen = found if sample is None else _drawn(found, sample)
    rows = ((where, [each.get(name, ABSENT) for name in names]) for where, each in chosen)
    return Rows(read.columns or tuple(names), rows)


def _of_parquet(path: Path, sample: int | None) -> Rows:
    with explained(f"reading {path}"):
        import pyarrow
        from pyarrow import parquet
    places: Sequence[int]
    try:
        with parquet.ParquetFile(path) as file:
            places = range(file.metadata.num_rows)
            if sample is None or sample >= len(places):
                table = file.read()
            else:
                places = _drawn(places, sample)
                table = _at(places, file)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {error}") from error

    def rows() -> Iterator[tuple[str, list[Any]]]:
        numbers = iter(places)
        for batch in table.to_batches(max_chunksize=1000):
            for values in zip(*(column.to_pylist() for column in batch.columns)):
                yield f"{path}, row {next(numbers) + 1}", list(values)

    return Rows(tuple(table.column_names), rows(), table)


def _at(places: Sequence[int], file: Any) -> Any:
    """Return the rows at some places of a Parquet file, which is read in batches."""
    import pyarrow

    parts, start = [], 0
    for batch in file.iter_batches():
        end = start + batch.num_rows
        inside = places[bisect_left(places, start) : bisect_left(places, end)]
        parts.append(batch.take(pyarrow.array([place - start for place in inside], "int64")))
        start = end
    return pyarrow.Table.from_batches(parts, file.schema_arrow)
