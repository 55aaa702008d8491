"""Rows with what a model says about them, in the format of the output."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Literal, TextIO

from seqnorm.datasets.layout import Quotes
from seqnorm.datasets.record_files import record_line
from seqnorm.datasets.rows import ABSENT
from seqnorm.extra import explained

from .sources import Source
from .text_lines import printing

Format = Literal["tsv", "csv", "jsonl", "json", "parquet"]
ENDINGS: Mapping[str, Format] = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_log = logging.getLogger(__name__)


def format_of(output: str, format: Format | None) -> Format:
    """Return the format that is given, or that of the output's name, or tsv.

    Raises:
        ValueError: Parquet would be written to standard output, or the name is of a spreadsheet.
    """
    ending = Path(output).suffix.lower()
    if ending in _SPREADSHEETS:
        raise ValueError(
            f"{output}: {ending} is not written; name a file that ends in one of "
            f"{', '.join(ENDINGS)}; spreadsheets open .csv"
        )
    chosen = format or ENDINGS.get(ending, "tsv")
    if chosen == "parquet" and output in ("-", "/dev/stdout"):
        raise ValueError("Parquet cannot be printed: name a file with --output")
    return chosen


def repeats_lines(output: str, format: Format | None) -> bool:
    """Return whether the output repeats lines of text in a column "text".

    They are repeated with the format csv, json or parquet, or, without a format, if the output's
    name has one of ``ENDINGS``. Otherwise output k belongs to line k.
    """
    if format in ("tsv", "jsonl"):
        return False
    return format is not None or Path(output).suffix.lower() in ENDINGS


class Output:
    """A table that is being written.

    Args:
        out: The file.
        source: The rows, with their columns.
        flat: The names of the values that are added in a format of columns.
        nested: The names of the values that are added to an object.
        repeat: Write the values of the rows too.
        digits: The format of added numbers in columns of text.
    """

    is_nested = False

    def __init__(
        self,
        out: TextIO,
        source: Source,
        flat: Sequence[str],
        nested: Sequence[str],
        repeat: bool,
        digits: str,
    ) -> None:
        self.out = out
        self.source = source
        self.columns = source.columns if repeat else ()
        self.digits = digits
        self.names = _free(nested if self.is_nested else flat, self.columns)
        self.begin()

    def begin(self) -> None:
        """Write what stands before the first row."""

    def write(self, flat: Sequence[Any], nested: Sequence[Any]) -> None:
        """Write the next row of the source with the added values."""
        values = self.source.taken()
        added = list(nested if self.is_nested else flat)
        self.row(values if self.columns else [], added)

    def object(self, values: list[Any], added: list[Any]) -> str:
        """Return a row as a JSON object."""
        found = {k: v for k, v in zip(self.columns, values) if v is not ABSENT}
        found.update(zip(self.names, added))
        return json.dumps(found, ensure_ascii=False, default=str)

    def row(self, values: list[Any], added: list[Any]) -> None:
        """Write a row."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what stands behind the last row."""


class _Fields(Output):
    ending = ".csv"
    delimiter = ","

    def begin(self) -> None:
        # Rows of literal quotation marks stay as they are, so that they are read in the same way.
        self._quotes: Quotes | None = None
        if self.source.quotes == "literal" and self.source.ending == self.ending:
            self._quotes = "literal"
            self.delimiter = self.source.delimiter or self.delimiter
        self._print([*self.columns, *self.names])

    def row(self, values: list[Any], added: list[Any]) -> None:
        shown = [format(v, self.digits) if isinstance(v, float) else as_field(v) for v in added]
        self._print([*map(as_field, values), *shown])

    def _print(self, fields: list[str]) -> None:
        self.out.write(record_line(fields, self.delimiter, self._quotes))


class _Tabs(_Fields):
    ending = ".tsv"
    delimiter = "\t"


class _Lines(Output):
    is_nested = True

    def begin(self) -> None:
        _check_once(self.columns)

    def row(self, values: list[Any], added: list[Any]) -> None:
        self.out.write(f"{self.object(values, added)}\n")


class _List(_Lines):
    def begin(self) -> None:
        super().begin()
        self._before = "[\n"

    def row(self, values: list[Any], added: list[Any]) -> None:
        self.out.write(f"{self._before}{self.object(values, added)}")
        self._before = ",\n"

    def end(self) -> None:
        self.out.write("[]\n" if self._before == "[\n" else "\n]\n")


class _Parquet(Output):
    def begin(self) -> None:
        with explained("writing Parquet"):
            import_module("pyarrow")
        _check_once(self.columns)
        self._values: list[list[Any]] = []
        self._added: list[list[Any]] = []

    def row(self, values: list[Any], added: list[Any]) -> None:
        if self.source.table is None:
            self._values.append(values)
        self._added.append(added)

    def end(self) -> None:
        import pyarrow
        from pyarrow import parquet

        table = self.source.table if self.columns else None
        if table is None:
            arrays = [_array([row[k] for row in self._values]) for k in range(len(self.columns))]
            table = pyarrow.table(arrays, list(self.columns))
        for place, name in enumerate(self.names):
            column = _array([row[place] for row in self._added])
            table = table.append_column(name, column)
        self.out.flush()
        parquet.write_table(table, self.out.buffer)


_OUTPUTS: Mapping[Format, type[Output]] = {
    "tsv": _Tabs,
    "csv": _Fields,
    "jsonl": _Lines,
    "json": _List,
    "parquet": _Parquet,
}


@contextmanager
def writing(
    source: Source,
    output: str,
    chosen: Format | None,
    flat: Sequence[str],
    nested: Sequence[str],
    digits: str,
) -> Iterator[Output]:
    """Open the output of the rows of ``source``; the arguments are those of ``Output``.

    Raises:
        ValueError: The format cannot hold the rows.
    """
    repeat = not source.is_lines or repeats_lines(output, chosen)
    kind = _OUTPUTS[format_of(output, chosen)]
    with printing(output) as out:
        made = kind(out, source, flat, nested, repeat, digits)
        yield made
        made.end()


def as_field(value: Any) -> str:
    """Return a value as text, as a file with separators holds it."""
    if value is None or value is ABSENT:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _array(values: list[Any]) -> Any:
    """Return a column of Parquet; values of several kinds become text."""
    import pyarrow

    values = [None if value is ABSENT else value for value in values]
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.array([None if value is None else as_field(value) for value in values])


def _check_once(columns: Sequence[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise ValueError(
                f"the input has more than one column {column!r}, which only .csv and .tsv can hold"
            )


def _free(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the names, with others for those that the rows, or names before them, have already.

    The other names are predicted_NAME, or predicted_NAME_2 and so on. All have the same number, so
    that they can be told from those of an earlier prediction.
    """
    own: list[str] = []
    for place, name in enumerate(names):
        single = name
        while single in own or (single != name and single in names[place:]):
            single = f"predicted_{single}"
        own.append(single)
    # The second of two like names is not to get the usual substitute of the first.
    kept = {stem for name, stem in zip(names, own) if not {name, stem} & {*columns}}
    for number in count(1):
        end = "" if number == 1 else f"_{number}"
        found = [name if name in kept else f"predicted_{name}{end}" for name in own]
        if len({*found, *columns}) == len(found) + len({*columns}):
            break
    for place, (name, free) in enumerate(zip(names, found)):
        if name in names[:place]:
            _log.warning("two of the new columns are %r, so the second one is %r", name, free)
        elif free != name:
            _log.warning("the input has a column %r, so the predicted one is %r", name, free)
    return found
