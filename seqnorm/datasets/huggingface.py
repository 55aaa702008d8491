"""Data sets of Hugging Face's library `datasets`, by name or path: labelled texts, or texts alone.

Write `hf:NAME`, `hf:NAME:CONFIGURATION`, or `hf:PATH` for a folder that `save_to_disk` wrote or
that holds CSV, JSON, text or Parquet files. No code of a data set is run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .documents import DatasetError, Row
from .layout import Layout, is_missing
from .own_files import LEAVE_OUT, log_dropped, name_of_class, with_whole_numbers
from .parts import parts_by_name

_log = logging.getLogger(__name__)

PREFIX = "hf:"


def read_huggingface(source: str, root: str | Path, layout: Layout) -> dict[str, list[Row]]:
    """Return the parts of a data set with the names of `seqnorm.datasets.parts`, and no others.

    Classes have the names that the data set gives them. A validation or test part without any
    label, as competitions publish it, is left out with a warning in the log. Downloads are kept in
    `<root>/huggingface`.

    Raises ModuleNotFoundError without the library, and DatasetError for data that cannot be loaded
    or lack a column, a training part or a label.
    """
    found = {}
    text_column, label_column = layout.known_columns
    for part, (theirs, table) in _parts(source, root).items():
        where = f"{PREFIX}{source}, part {theirs}"
        _check_column(where, table, text_column, "text_column")
        _check_column(where, table, label_column, "label_column")
        if part != "train" and _without_labels(table, label_column):
            _log.warning(
                "%s%s: no row of the part %s has a label; it is left out", PREFIX, source, theirs
            )
        else:
            found[part] = _rows(where, table, layout)
    return with_whole_numbers(f"{PREFIX}{source}", found)


def read_huggingface_texts(
    source: str, root: str | Path, text_column: str
) -> dict[str, tuple[str, ...]]:
    """Return the texts of the same parts, without white space around them and without labels."""
    parts = {}
    for part, (theirs, table) in _parts(source, root).items():
        where = f"{PREFIX}{source}, part {theirs}"
        _check_column(where, table, text_column, "text_column")
        texts = enumerate(table[text_column])
        parts[part] = tuple(_text(f"{where}, row {n}", text).strip() for n, text in texts)
    return parts


def _parts(source: str, root: str | Path) -> dict[str, tuple[str, Any]]:
    """Return, by the name of a part here, its name in the library and its table."""
    tables = _load(source, Path(root) / "huggingface")
    names = parts_by_name(f"{PREFIX}{source}", ((name, name) for name in tables))
    parts = {part: (theirs, tables[theirs]) for part, theirs in names.items()}
    if "train" not in parts:
        raise DatasetError(f"{PREFIX}{source} has no part named train")
    return parts


def _load(source: str, cache: Path) -> Mapping[str, Any]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the corpus {PREFIX}{source} needs the package datasets: "
            "pip install 'seqnorm[datasets]'",
            name="datasets",
        ) from error
    folder = Path(source)
    try:
        if any((folder / name).exists() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(source)
        else:
            name, _, configuration = (source, "", "") if folder.exists() else source.partition(":")
            found = datasets.load_dataset(name, configuration or None, cache_dir=str(cache))
    except Exception as error:  # the library has many, for networks, formats and its own
        reason = str(error).splitlines()[0] if str(error) else ""
        raise DatasetError(
            f"Hugging Face's datasets cannot load {source!r} ({type(error).__name__}: "
            f"{reason[:300]}); write hf:NAME, hf:NAME:CONFIGURATION or hf:PATH with the name of a "
            "data set or the path of a folder"
        ) from error
    # A single table is saved without the name of its part.
    return found if isinstance(found, dict) else {"train": found}


def _check_column(where: str, table: Any, column: str, argument: str) -> None:
    if column not in table.column_names:
        raise DatasetError(
            f"{where}: there is no column {column!r}; there are {', '.join(table.column_names)}; "
            f"set {argument}"
        )


def _text(where: str, text: object) -> str:
    if not isinstance(text, str):
        raise DatasetError(f"{where}: the text is {type(text).__name__}, not a string")
    return text


def _without_labels(table: Any, label_column: str) -> bool:
    classes = getattr(table.features[label_column], "names", None) is not None
    labels = list(table[label_column])
    return bool(labels) and all(label is None or (classes and label == -1) for label in labels)


def _rows(part: str, table: Any, layout: Layout) -> list[Row]:
    text_column, label_column = layout.known_columns
    names = getattr(table.features[label_column], "names", None)
    rows, dropped = [], []
    pairs = zip(table[text_column], table[label_column])
    for number, (text, label) in enumerate(pairs):
        where = f"{part}, row {number}"
        none = is_missing(label) or (names is not None and label == -1)
        if none and layout.drop_unlabelled:
            dropped.append(where)
            continue
        text = _text(where, text)
        if names is not None and isinstance(label, int):
            if not 0 <= label < len(names):
                raise DatasetError(f"{where}: the row has no label ({label}); {LEAVE_OUT}")
            label = names[label]
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if none or isinstance(label, bool) or not isinstance(label, (str, int)):
            more = f"; {LEAVE_OUT}" if none else ""
            raise DatasetError(
                f"{where}: the label is {label!r}, not a name or a whole number{more}"
            )
        rows.append(Row(text, name_of_class(where, str(label))))
    log_dropped(dropped)
    return rows
