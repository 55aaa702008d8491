"""JSON files: one object in each line (.jsonl), or one value for all records (.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqnorm.datasets.delimited import no_column
from seqnorm.datasets.documents import DatasetError

_FORMS = (
    "a .json file is a list of objects, an object of columns that are lists or objects of the same "
    "keys, or one object in each line"
)


def read_json_lines(
    path: Path, text: str, columns: tuple[str, str]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each record, its text and its label."""
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.strip():
            yield _of_record(where, _loaded(where, line), columns)


def read_json(path: Path, text: str, columns: tuple[str, str]) -> Iterator[tuple[str, Any, Any]]:
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
            yield from read_json_lines(path, text, columns)
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
        raise DatasetError(f"{no_column(str(path), column, list(value)[:20])}; {_FORMS}")
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
            raise DatasetError(no_column(where, column, list(record)))
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
