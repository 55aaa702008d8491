"""Labelled texts of one's own, from a file or a folder.

Files (UTF-8, with or without a byte order mark), by their ending:

- .csv and .tsv: a header line, then comma or tab separated fields; a field may be set in double
  quotes, which are doubled inside one, and may then hold line ends;
- .jsonl: one JSON object a line;
- .parquet: needs the package pyarrow.

Each has a column of texts and one of labels (strings, integers or booleans), by default "text" and
"label"; other columns are ignored. An empty text is a document, a missing label is an error.

Folders, either of:

- parts: "train" and, if there are any, "validation" and "test", each a file as above (train.csv) or
  a folder per class as below (train/);
- a folder per class, holding .txt files of one document each; the folder's name is the label.

Names that begin with a dot are ignored.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqnorm.datasets.documents import DatasetError, Row

_PARTS = ("train", "validation", "test")
_MISNAMED = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
_CSV_FIELD_LIMIT = 2**31 - 1
# Control characters, ends of lines and paragraphs, halves of surrogate pairs.
_NOT_IN_NAMES = {"Cc", "Zl", "Zp", "Cs"}


def read(path: Path, text_column: str, label_column: str) -> dict[str, list[Row]]:
    """The rows of each part found at `path`; a single file is a "train" part.

    Raises DatasetError, which names file and line, if something is missing or cannot be read.
    """
    if not (path.is_file() or path.is_dir()):
        raise DatasetError(f"{path}: neither a file nor a folder, but a device, a pipe or the like")
    if path.is_file():
        return {"train": _read_file(path, text_column, label_column)}
    found = {part: _find_part(path, part) for part in _PARTS}
    parts = {part: place for part, place in found.items() if place is not None}
    if not parts:
        return {"train": _read_class_folders(path)}
    for entry in _entries(path):
        if right := _MISNAMED.get(entry.stem.lower()):
            raise DatasetError(f"{entry}: call this part {right!r}")
    if "train" not in parts:
        raise DatasetError(f"{path} has {', '.join(parts)} but no train part")
    return {
        part: _read_class_folders(place)
        if place.is_dir()
        else _read_file(place, text_column, label_column)
        for part, place in parts.items()
    }


def _find_part(folder: Path, part: str) -> Path | None:
    places = [entry for entry in _entries(folder) if entry.stem == part and _is_part(entry)]
    if len(places) > 1:
        raise DatasetError(
            f"{folder} has more than one {part} part: {', '.join(place.name for place in places)}"
        )
    return places[0] if places else None


def _is_part(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix.lower() in _READERS)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_class_folders(folder: Path) -> list[Row]:
    classes = [entry for entry in _entries(folder) if entry.is_dir()]
    if not classes:
        raise DatasetError(
            f"{folder} holds neither a train part (train.csv, .tsv, .jsonl, .parquet or a folder "
            "train) nor a folder per class"
        )
    rows = []
    for class_folder in classes:
        files = _entries(class_folder)
        if not files:
            raise DatasetError(f"{class_folder}: the class has no documents")
        name = name_of_class(str(class_folder), class_folder.name)
        for file in files:
            if not file.is_file() or file.suffix.lower() != ".txt":
                raise DatasetError(f"{file}: a class folder may hold .txt files only")
            rows.append(Row(_read_text(file, empty_allowed=True), name))
    return rows


def _read_file(path: Path, text_column: str, label_column: str) -> list[Row]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(f"{path}: a file must end in one of {', '.join(_READERS)}")
    rows = []
    for where, text, label in reader(path, text_column, label_column):
        if not isinstance(text, str):
            raise DatasetError(f"{where}: {text_column!r} must be a string, not {text!r:.50}")
        rows.append(Row(check_text(where, text), _label(where, label, label_column)))
    if not rows:
        raise DatasetError(f"{path}: no documents")
    return rows


def _label(where: str, label: object, label_column: str) -> str:
    if isinstance(label, bool):
        return str(label).lower()
    if label is None or (isinstance(label, str) and not label.strip()):
        raise DatasetError(f"{where}: {label_column!r} is missing or empty")
    if not isinstance(label, (str, int)):
        raise DatasetError(
            f"{where}: {label_column!r} must be a string, an integer or a boolean, "
            f"not {label!r:.50}"
        )
    return name_of_class(where, str(label).strip())


def name_of_class(where: str, name: str) -> str:
    """A name that can be printed, and be a field of a table, as it is; raises DatasetError, which
    names `where`."""
    wrong = [c for c in check_text(where, name) if unicodedata.category(c) in _NOT_IN_NAMES]
    if wrong:
        raise DatasetError(
            f"{where}: the label {name!r:.50} holds the control character {wrong[0]!a}: leave it "
            "out"
        )
    return name


def check_text(where: str, text: str) -> str:
    """The text itself, if it is one; raises DatasetError, which names `where`."""
    if "\0" in text:
        raise DatasetError(f"{where}: a NUL character; the file is binary or damaged")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where}: half of a surrogate pair, no character: {error}") from error
    return text


def _read_text(path: Path, empty_allowed: bool = False) -> str:
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


_Found = Iterator[tuple[str, Any, Any]]


def _read_csv(path: Path, text_column: str, label_column: str) -> _Found:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    stream = io.StringIO(_read_text(path), newline="")
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            fields = _next_record(reader)
        except csv.Error as error:
            raise DatasetError(
                f"{where}: broken quoting in the record that begins here ({error}); set a field "
                "that holds quotes, separators or line ends in double quotes and double those "
                "inside it"
            ) from error
        if fields is None:
            return
        if not fields:
            continue
        if not header:
            header = fields
            for column in (text_column, label_column):
                if header.count(column) != 1:
                    raise DatasetError(_no_column(where, column, header))
            text_place, label_place = header.index(text_column), header.index(label_column)
            continue
        if len(fields) != len(header):
            raise DatasetError(
                f"{where}: {len(fields)} fields where the header has {len(header)}; a field that "
                "holds separators must be set in double quotes"
            )
        yield where, fields[text_place], fields[label_place]


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    # The limit is one for the whole process, and its default of 131,072 characters is too short for
    # long documents: widened for one record, put back at once.
    limit = csv.field_size_limit(_CSV_FIELD_LIMIT)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _no_column(where: str, column: str, columns: list[str]) -> str:
    return (
        f"{where}: {'more than one' if column in columns else 'no'} column {column!r}; there are "
        f"{', '.join(map(repr, columns))}; name the right ones with text_column and label_column"
    )


def _read_json_lines(path: Path, text_column: str, label_column: str) -> _Found:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise DatasetError(f"{where}: not a JSON object")
        if text_column not in record:
            raise DatasetError(_no_column(where, text_column, list(record)))
        if label_column not in record:
            raise DatasetError(_no_column(where, label_column, list(record)))
        yield where, record[text_column], record[label_column]


def _read_parquet(path: Path, text_column: str, label_column: str) -> _Found:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path} needs the package pyarrow: pip install 'seqnorm[train]'"
        ) from error
    columns = [text_column, label_column]
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if names.count(column) != 1:
                    raise DatasetError(_no_column(str(path), column, names))
            table = file.read(columns=columns)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {error}") from error
    texts, labels = (table.column(column).to_pylist() for column in columns)
    for number, (text, label) in enumerate(zip(texts, labels), start=1):
        yield f"{path}, row {number}", text, label


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
