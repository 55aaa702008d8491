"""Series in a table with one row for each step.

Letters: S rows, N series, F features, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..documents import DatasetError
from ..layout import option
from .arrays import check_finite, check_targets, pieces
from .containers import Series, SeriesFile, SeriesLayout, check_ids, check_label, shown, told


def read_long(path: Path, table: Any, roles: Mapping[str, Any], layout: SeriesLayout) -> SeriesFile:
    """Group the rows of a table of pyarrow by id, and sort those of an id by time.

    Args:
        path: The file, for errors.
        table: The table.
        roles: The columns: id, time, features, answers.
        layout: The options.

    Raises:
        DatasetError: A value is missing or not a number, a time occurs twice in a series, or a
            label or target is not the same in all rows of a series.
    """
    import numpy as np

    if not len(table):
        raise DatasetError(f"{path}: no rows")
    ids, codes = _coded(path, table, roles["id"])
    times = _times(path, table, roles["time"], ids, codes)
    features = tuple(roles["features"])
    order = np.lexsort((times, codes))
    sorted_codes, sorted_times = codes[order], times[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))])
    same = (sorted_codes[1:] == sorted_codes[:-1]) & (sorted_times[1:] == sorted_times[:-1])
    if same.any():
        first, second = np.sort(order[np.flatnonzero(same)[0] :][:2])
        shown_time = table.column(roles["time"])[int(first)]
        raise DatasetError(
            f"{path}, rows {first + 1} and {second + 1}: series {ids[codes[first]]!r} has the time "
            f"{shown_time} twice"
        )
    columns = [_numbers(path, table, name, "feature") for name in features]
    values = np.stack(columns, 1)[order]
    check_finite(
        str(path), values, offsets, ids, features, _Picked(table.column(roles["time"]), order)
    )
    series = Series(check_ids(path, ids), pieces(values, offsets))
    firsts = order[offsets[:-1]]
    answers = roles["answers"]
    targets: tuple[str, ...] = ()
    if layout.answer == "label":
        (name,) = answers
        column = table.column(name).to_pylist()
        _check_constant(path, "label", name, ids, codes, column)
        labels = [
            check_label(f"{path}: series {key!r}", column[first], name)
            for key, first in zip(ids, firsts)
        ]
        series = series._replace(labels=tuple(labels))
    elif layout.answer == "targets":
        targets = tuple(answers)
        found = np.stack([_numbers(path, table, name, "target") for name in targets], 1)
        check_targets(str(path), found[firsts], ids, targets)
        for name, column in zip(targets, found.T):
            _check_constant(path, "target", name, ids, codes, column.tolist())
        series = series._replace(targets=tuple(map(tuple, found[firsts].tolist())))
    used = {"id": [roles["id"]], "time": [roles["time"]], "features": features}
    return SeriesFile(features, targets, series, told(path, {**used, layout.answer or "": answers}))


class _Picked:
    """A column whose elements are read in another order."""

    def __init__(self, values: Any, order: Any) -> None:
        self._values = values
        self._order = order

    def __getitem__(self, place: int) -> Any:
        return self._values[int(self._order[place])]


def _coded(path: Path, table: Any, name: str) -> tuple[list[str], Any]:
    """Return the ids in the order in which they appear, and the place (S,) of each row's there."""
    import pyarrow

    column = table.column(name)
    if pyarrow.types.is_floating(column.type) or pyarrow.types.is_nested(column.type):
        raise DatasetError(
            f"{path}: the ids ({name!r}) must be texts or whole numbers, not {column.type}"
        )
    column = column.cast(pyarrow.string())
    missing = [number for number, key in enumerate(column.to_pylist(), start=1) if not key]
    if missing:
        raise DatasetError(f"{path}, row {missing[0]}: the id ({name!r}) is missing")
    found = column.combine_chunks().dictionary_encode()
    if isinstance(found, pyarrow.ChunkedArray):
        found = found.combine_chunks()
    return found.dictionary.to_pylist(), found.indices.to_numpy(zero_copy_only=False)


def _times(path: Path, table: Any, name: str, ids: Sequence[str], codes: Any) -> Any:
    """Return times (S,) that can be sorted."""
    import numpy as np
    import pyarrow

    column = table.column(name)
    kind, types = column.type, pyarrow.types
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_temporal(kind)):
        raise DatasetError(
            f"{path}: the times ({name!r}) must be numbers or dates in ISO form, as "
            f"2024-01-31T12:00:00, not {kind}, as {column[0].as_py()!r:.40}"
        )
    found = column.to_numpy()
    missing = np.isnat(found) if found.dtype.kind in "mM" else _nan(found)
    if column.null_count or missing.any():
        values = column.to_pylist()
        row = next(n for n, value in enumerate(values) if value is None or value != value)
        raise DatasetError(
            f"{path}, row {row + 1}: a time ({name!r}) of series {ids[codes[row]]!r} is missing"
        )
    # Dates and times of the day may arrive as Python's own objects.
    return np.unique(found, return_inverse=True)[1] if found.dtype.kind == "O" else found


def _nan(found: Any) -> Any:
    import numpy as np

    return np.isnan(found) if found.dtype.kind == "f" else np.zeros(len(found), bool)


def _numbers(path: Path, table: Any, name: str, role: str) -> Any:
    """Return a column as numbers (S,) in float64, NaN for a missing value."""
    import pyarrow

    column = table.column(name)
    kind, types = column.type, pyarrow.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    if types.is_null(kind):
        plain = True
    if not plain:
        places = [n for n, value in enumerate(column.to_pylist()) if not _is_number(value)]
        first = places[0] if places else 0
        wrong = column[first].as_py()
        role_option = "feature_columns" if role == "feature" else "target_columns"
        raise DatasetError(
            f"{path}, row {first + 1}: the {role} {name!r} holds {wrong!r:.40}, not a number; "
            f"correct it, or name the right columns with {role_option} ({option(role_option)})"
        )
    return column.cast(pyarrow.float64()).to_numpy()


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]  # an error is an answer
    except (TypeError, ValueError):
        return value is None
    return True


def _check_constant(
    path: Path, role: str, name: str, ids: Sequence[str], codes: Any, column: Sequence[Any]
) -> None:
    """Refuse a label or target that differs between the rows of a series."""
    seen: dict[int, Any] = {}
    for row, (code, value) in enumerate(zip(codes.tolist(), column), start=1):
        before = seen.setdefault(code, value)
        if value != before:
            raise DatasetError(
                f"{path}, row {row}: the {role} ({name!r}) of series {ids[code]!r} is "
                f"{shown([value])} here and {shown([before])} before; a series has one {role}"
            )
