"""Files of JSON and of JSON lines, in the forms that pandas and others write."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .documents import DatasetError
from .layout import read_text

FORMS = (
    "a .json file is a list of objects, an object of columns that are lists or objects of the same "
    "keys, or one object in each line"
)
_log = logging.getLogger(__name__)


class Objects(NamedTuple):
    """The objects of a file.

    Attributes:
        records: The place and the values of each object, read as they are needed.
        columns: The names of columns that are known. Where the file is one object of columns, these
            have to have the same entries, and others are left out if theirs differ. Without a known
            name, all lists and objects have to have the same entries.
        left_out: The other names in such a file.
    """

    records: Iterator[tuple[str, dict[str, Any]]]
    columns: tuple[str, ...] | None = None
    left_out: tuple[str, ...] = ()

    def log_left_out(self, path: Path) -> None:
        """Log the values beside the columns, if there are any."""
        if self.left_out:
            _log.warning(
                "%s: %s left out, because only values with an entry for each row are columns",
                path,
                _listed(self.left_out) + (" is" if len(self.left_out) == 1 else " are"),
            )


def read_objects(path: Path, columns: Sequence[str] = ()) -> Objects:
    """Read the objects of a .json or .jsonl file.

    Args:
        path: The file.
        columns: The names of columns that are known. Where the file is one object of columns, these
            have to have the same entries, and others are left out if theirs differ. Without a known
            name, all lists and objects have to have the same entries.

    Raises:
        DatasetError: The file cannot be read; the error names the line.
    """
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return Objects(_lines(path, text))
    try:
        value = json_value(str(path), text)
    except DatasetError:
        first, _, more = text.strip().partition("\n")
        if more and _is_json(first):  # JSON lines, whose error is in one of the lines
            return Objects(_lines(path, text))
        raise
    if isinstance(value, list):
        places = (f"{path}, record {number}" for number in range(1, len(value) + 1))
        return Objects((where, _object(where, found)) for where, found in zip(places, value))
    if not isinstance(value, dict) or not value:
        raise DatasetError(f"{path}: {FORMS}")
    known = [column for column in columns if column in value]
    has_text = any(isinstance(each, str) for each in value.values())
    if has_text and not (known and _is_column(value[known[0]])):
        return Objects(iter([(f"{path}, record 1", value)]))
    return _of_columns(path, value, known)


def _of_columns(path: Path, value: Mapping[str, Any], known: Sequence[str]) -> Objects:
    found = {name: _entries(each) for name, each in value.items() if _is_column(each)}
    for name in known:
        if name not in found:
            raise DatasetError(f"{path}: {name!r} is {value[name]!r:.50}; {FORMS}")
    needed = known or list(found)
    if not needed:
        raise DatasetError(f"{path}: {FORMS}")
    keys = found[needed[0]].keys()
    if any(found[name].keys() != keys for name in needed):
        sizes = _listed([len(found[name]) for name in needed])
        raise DatasetError(
            f"{path}: the columns {_listed(needed)} do not have the same entries; they have {sizes}"
        )
    names = tuple(name for name, entries in found.items() if entries.keys() == keys)
    rows = ((f"{path}, record {key}", {name: found[name][key] for name in names}) for key in keys)
    return Objects(rows, names, tuple(name for name in value if name not in names))


def _is_column(value: object) -> bool:
    return isinstance(value, (list, dict))


def _entries(column: Any) -> dict[Any, Any]:
    return dict(enumerate(column, start=1)) if isinstance(column, list) else column


def _listed(values: Sequence[object]) -> str:
    """Return the values in words: 1, 2 and 3."""
    shown = [repr(value) for value in values]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _lines(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _object(where, json_value(where, line))


def _object(where: str, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: not a JSON object")
    return record


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_value(where: str, text: str) -> Any:
    """Return the value in a text of JSON; raise DatasetError for other text or a key twice."""

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
