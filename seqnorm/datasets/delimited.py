"""Records of fields with separators, as in .csv and .tsv files."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from .documents import DatasetError
from .layout import Layout, Quotes, no_column, option, read_text

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
_FIELD_LIMIT = 2**31 - 1
# A line that spreadsheets write before the header.
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n")
_log = logging.getLogger(__name__)


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


def read_delimited(path: Path, text: str, layout: Layout) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each record, and its fields of the two columns, a text and a label.

    The default delimiter is the usual one for the file's suffix. If the header has the columns with
    exactly one other delimiter, that one is taken and logged.

    Raises DatasetError, which names the line, if a column is missing, if a record has too many or
    too few fields, or if quotation marks are broken or may enclose further records.
    """
    columns, quotes = layout.known_columns, layout.quotes
    delimiter = check_delimiter(layout.delimiter)
    lines = list(io.StringIO(text, newline=""))
    before = 0
    if skipped := SEPARATOR_LINE.match(text):
        delimiter, before = delimiter or skipped[1], 1
    headers = _headers(lines[before:], quotes)
    chosen = delimiter or _guessed(path, headers, columns)
    header: list[str] = []
    places = (0, 0)
    labels: set[str] = set()
    suspects: list[tuple[str, list[str]]] = []
    for number, end, fields in records_of(path, lines, chosen, quotes, before):
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
                f"to hold further records; set quotes ({option('quotes')}) to literal if quotation "
                "marks are characters like any other, or to enclose if this is one field"
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


def records_of(
    path: Path, lines: Iterable[str], delimiter: str, quotes: Quotes | None, before: int = 0
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
                f"set quotes ({option('quotes')}) to literal"
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


def headers_of(path: Path, layout: Layout) -> list[list[str]]:
    """Return the fields of a file's header, for each separator with which it can be read."""
    text = read_text(path)
    given, before = check_delimiter(layout.delimiter), 0
    if skipped := SEPARATOR_LINE.match(text):
        given, before = given or skipped[1], 1
    lines = list(islice(io.StringIO(text, newline=""), before, None))
    if given is not None:
        return [next(records_of(path, lines, given, layout.quotes), (0, 0, []))[2]]
    return list(_headers(lines, layout.quotes).values())


def _headers(lines: Sequence[str], quotes: Quotes | None) -> dict[str, list[str]]:
    """Return the fields of the header for each delimiter with which it can be read."""
    found = {}
    for delimiter in dict.fromkeys(DELIMITERS.values()):
        with suppress(DatasetError):
            found[delimiter] = next(records_of(Path(), lines, delimiter, quotes), (0, 0, []))[2]
    return found


def usual_delimiter(path: Path) -> str:
    """Return the separator that the ending of a file stands for."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _guessed(path: Path, headers: dict[str, list[str]], columns: tuple[str, str]) -> str:
    usual = usual_delimiter(path)
    fits = [
        delimiter
        for delimiter, header in headers.items()
        if all(header.count(column) == 1 for column in columns)
    ]
    if usual in fits or len(fits) != 1:
        return usual
    _log.warning(
        "%s: its header shows fields separated by %r (%s)", path, fits[0], option("delimiter")
    )
    return fits[0]


def _no_column_by(
    where: str, column: str, header: list[str], by_others: dict[str, list[str]]
) -> str:
    other, names = max(by_others.items(), key=lambda found: len(found[1]))
    if len(names) <= len(header):
        return no_column(where, column, header)
    more = f", or, separated by {other!r}, {', '.join(map(repr, names))}"
    return f"{no_column(where, column, header, more)}, and the separator with delimiter"
