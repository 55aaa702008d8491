"""Series in tables: .csv and .tsv files, and .parquet files, which need the package pyarrow.

- A *long* table has one row for each step, in any order: columns of ids, of times (numbers, or
  dates in ISO form), of features, and of the label or the targets, which are the same in all rows
  of an id.
- A Parquet file with *lists* has one row for each series: one column of lists of numbers for each
  feature, as long as each other, or one column of lists of steps, which are lists of F numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqnorm.extra import explained

from ..delimited import DELIMITERS, SEPARATOR_LINE, check_delimiter, usual_delimiter
from ..documents import DatasetError
from ..layout import read_text
from .containers import SeriesFile, SeriesLayout, guess, known, shown
from .lists import is_list, read_lists
from .long import read_long

IDS = ("id", "ids", "series", "series_id", "case", "case_id")
TIMES = ("time", "t", "step", "timestamp", "date")
# One block, so that the type of a column is decided by all of its values.
_MAX_BLOCK = 2**31 - 1
_MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None")


def read_delimited(path: Path, layout: SeriesLayout) -> SeriesFile:
    """Read a long table from a .csv or .tsv file.

    The separator is the one that is given, that of a first line such as `sep=;`, or a guess.

    Raises DatasetError if it cannot be read.
    """
    with explained(f"reading {path}"):
        import pyarrow
        from pyarrow import csv as arrow
    text, delimiter = read_text(path), check_delimiter(layout.delimiter)
    if skipped := SEPARATOR_LINE.match(text):
        text, delimiter = text[skipped.end() :], delimiter or check_delimiter(skipped[1])
    if not text.strip():
        raise DatasetError(f"{path}: no header and no rows after {skipped and skipped[0].strip()}")
    header = text.lstrip().splitlines()[0]
    delimiter = delimiter or _guessed(path, header)
    names = next(csv.reader([header], delimiter=delimiter))
    roles = _roles(path, names, layout)
    texts = [roles["id"], *(roles["answers"] if layout.answer == "label" else ())]
    options = {
        "parse_options": arrow.ParseOptions(delimiter=delimiter),
        "read_options": arrow.ReadOptions(
            use_threads=False,
            block_size=min(path.stat().st_size + 1024, _MAX_BLOCK),
            skip_rows=1 if skipped else 0,
        ),
        "convert_options": arrow.ConvertOptions(
            column_types=dict.fromkeys(texts, pyarrow.string()), null_values=_MISSING
        ),
    }
    try:
        table = arrow.read_csv(path, **options)
    except pyarrow.ArrowException as error:
        raise DatasetError(f"{path}: not readable as fields by {delimiter!r}: {error}") from error
    return read_long(path, table, roles, layout)


def read_parquet(path: Path, layout: SeriesLayout) -> SeriesFile:
    """Read a long table or one of lists from a .parquet file.

    Raises DatasetError if it cannot be read.
    """
    with explained(f"reading {path}"):
        import pyarrow
        from pyarrow import parquet
    if layout.delimiter:
        raise DatasetError(f"{path}: delimiter is for .csv and .tsv files")
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {error}") from error
    names = table.column_names
    lists = [name for name in names if is_list(table.schema.field(name).type)]
    if not lists:
        return read_long(path, table, _roles(path, names, layout), layout)
    if layout.time_column:
        raise DatasetError(f"{path}: time_column is for tables with one row for each step")
    others = [name for name in names if name not in lists]
    id_column = layout.id_in(others)
    if id_column is not None:
        known(path, id_column, others, "id")
    elif usual := [name for name in others if name.lower() in IDS]:
        id_column = guess(path, usual, IDS, "id_column")
    nested = len(lists) == 1 and is_list(table.schema.field(lists[0]).type.value_type)
    chosen = layout.feature_columns if nested else layout.chosen_features
    if chosen is not None:
        lists = [known(path, name, lists, "features") for name in chosen]
    return read_lists(path, table, id_column, lists, layout.answers(path, others), layout)


def _roles(path: Path, names: Sequence[str], layout: SeriesLayout) -> dict[str, Any]:
    """Return the columns of a long table: id, time, features (None: all others), answers."""
    names = list(names)
    found: dict[str, Any] = {}
    for role, given, usual in (
        ("id", layout.id_in(names), IDS),
        ("time", layout.time_in(names), TIMES),
    ):
        found[role] = (
            guess(path, names, usual, f"{role}_column")
            if given is None
            else known(path, given, names, role)
        )
    found["answers"] = layout.answers(path, names)
    taken = {found["id"], found["time"], *found["answers"]}
    if layout.chosen_features is None:
        found["features"] = [name for name in names if name not in taken]
        for name in found["features"]:
            known(path, name, names, "features")
        if not found["features"]:
            raise DatasetError(f"{path}: no column is left for features; there are {shown(names)}")
    else:
        found["features"] = [known(path, n, names, "features") for n in layout.chosen_features]
        if twice := taken.intersection(found["features"]):
            raise DatasetError(f"{path}: {shown(sorted(twice))} cannot also be a feature")
    return found


def _guessed(path: Path, header: str) -> str:
    """Return the usual separator of the file, or the only other one that the header holds."""
    held = [each for each in dict.fromkeys(DELIMITERS.values()) if each in header]
    return held[0] if len(held) == 1 else usual_delimiter(path)
