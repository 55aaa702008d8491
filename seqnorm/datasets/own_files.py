"""Your own labelled texts, from a file or a folder.

Files (UTF-8, with or without a byte order mark), by their suffix:

- .csv and .tsv: a header line, then fields separated by commas or tabs, or by the separator that
  the header shows; a field may be set in double quotes, which are doubled inside it, and may then
  hold line ends;
- .jsonl: one JSON object in each line;
- .json: the same, or a list of objects, or an object of columns;
- .parquet: needs the package pyarrow.

Each has a column of texts and one of labels (strings, whole numbers or booleans); other columns are
ignored. By default they are "text" and "label", or a guess, see `seqnorm.datasets.guessing`. An
empty text is a document. A missing label is an error unless rows without a label are dropped on
request. If all labels of all parts are whole numbers, they are written without a decimal point:
1.0, as pandas writes a column with gaps, is the class 1.

Folders, either of:

- parts: "train" and, if present, "validation" (or "valid", "val" or "dev") and "test", each a file
  as above (train.csv) or a folder per class as below (train/);
- a folder per class that holds .txt files of one document each; the folder's name is the label.

Names that begin with a dot are ignored.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from .documents import DatasetError, Row
from .guessing import with_columns
from .layout import ENDINGS, Layout, check_text, is_missing, read_text
from .parts import parts_by_name
from .record_files import read_records

_WHOLE = re.compile(r"[+-]?[0-9]+(?:\.0*)?")
LEAVE_OUT = "leave such rows out with drop_unlabelled (--data.drop_unlabelled true)"
_log = logging.getLogger(__name__)
# Control characters, ends of lines and paragraphs, halves of surrogate pairs.
_NOT_IN_NAMES = {"Cc", "Zl", "Zp", "Cs"}


def read(path: Path, layout: Layout, alone: str = "train") -> dict[str, list[Row]]:
    """Read the rows of each part found at `path`.

    `alone` is the part that a single file, or a folder of classes, is. With "validation" or "test",
    a folder of parts needs no training part.

    Raises DatasetError, which names file and line, if something is missing or cannot be read.
    """
    found = {
        part: _read_class_folders(place) if place.is_dir() else _read_file(place, layout)
        for part, place in places_of_parts(path, alone).items()
    }
    return with_whole_numbers(str(path), found)


def complete(path: Path, layout: Layout, alone: str = "train") -> Layout:
    """Return the layout with the columns, guessed where they are not given.

    They are those of the first part that is a file; folders of classes have none.
    """
    for place in places_of_parts(path, alone).values():
        if place.is_file():
            return with_columns(place, layout)
    return layout


def places_of_parts(path: Path, alone: str = "train") -> dict[str, Path]:
    """Return the file or the folder of classes of each part, as `read` reads them."""
    if not (path.is_file() or path.is_dir()):
        raise DatasetError(f"{path}: neither a file nor a folder, but a device, a pipe or the like")
    if path.is_file():
        return {alone: path}
    entries = [(entry.stem, entry.name) for entry in _entries(path) if _is_part(entry)]
    parts = parts_by_name(path, entries)
    if not parts:
        return {alone: path}
    if "train" not in parts and alone not in parts:
        missing = "train" if alone == "train" else f"train or {alone}"
        raise DatasetError(f"{path} has {', '.join(parts)} but no {missing} part")
    return {part: path / name for part, name in parts.items()}


def with_whole_numbers(name: str, parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Write labels such as 1.0 as 1 if all labels of all parts are whole numbers, and log it."""
    labels = {row.label for rows in parts.values() for row in rows}
    changed = {label: str(int(float(label))) for label in labels if "." in label}
    if not changed or not all(map(_WHOLE.fullmatch, labels)):
        return parts
    example, shown = min(changed.items())
    _log.warning("%s: all labels are whole numbers, and %r is read as %r", name, example, shown)
    return {
        part: [Row(row.text, changed.get(row.label, row.label)) for row in rows]
        for part, rows in parts.items()
    }


def _is_part(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix.lower() in ENDINGS)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_class_folders(folder: Path) -> list[Row]:
    classes = [entry for entry in _entries(folder) if entry.is_dir()]
    if not classes:
        raise DatasetError(
            f"{folder} holds neither a train part (train.csv, .tsv, .jsonl, .json, .parquet or "
            "a folder train) nor a folder per class"
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
            rows.append(Row(read_text(file, empty_allowed=True), name))
    return rows


def _read_file(path: Path, layout: Layout) -> list[Row]:
    rows, dropped = [], []
    text_column, label_column = layout.known_columns
    for where, text, label in read_records(path, layout):
        if is_missing(label) and layout.drop_unlabelled:
            dropped.append(where)
            continue
        if not isinstance(text, str):
            raise DatasetError(f"{where}: {text_column!r} must be a string, not {text!r:.50}")
        rows.append(Row(check_text(where, text), label_of(where, label, label_column)))
    log_dropped(dropped)
    if not rows:
        raise DatasetError(f"{path}: no documents")
    return rows


def log_dropped(places: Sequence[str]) -> None:
    """Log how many rows without a label were dropped, if any."""
    if places:
        _log.warning("%d rows without a label were dropped, the first: %s", len(places), places[0])


def label_of(where: str, label: object, label_column: str) -> str:
    """Return the name of a class; raise DatasetError, which names `where`, for other values."""
    if isinstance(label, bool):
        return str(label).lower()
    if is_missing(label):
        raise DatasetError(f"{where}: {label_column!r} is missing or empty; {LEAVE_OUT}")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if not isinstance(label, (str, int)):
        raise DatasetError(
            f"{where}: {label_column!r} must be a string, an integer or a boolean, "
            f"not {label!r:.50}"
        )
    return name_of_class(where, str(label).strip())


def name_of_class(where: str, name: str) -> str:
    """Return the name of a class; raise DatasetError if it cannot be printed in a table."""
    wrong = [c for c in check_text(where, name) if unicodedata.category(c) in _NOT_IN_NAMES]
    if wrong:
        raise DatasetError(
            f"{where}: the label {name!r:.50} holds the control character {wrong[0]!a}: remove it"
        )
    return name
