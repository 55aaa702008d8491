"""Series in a table with one row for each series, whose features are lists.

Letters: N series, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..documents import DatasetError
from ..layout import option
from .arrays import check_finite, check_targets, pieces
from .containers import Series, SeriesFile, SeriesLayout, check_ids, check_label, told


def is_list(kind: Any) -> bool:
    """Return True for a type of pyarrow whose values are lists."""
    import pyarrow

    types = pyarrow.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)  # type: ignore[no-any-return]


def read_lists(
    path: Path,
    table: Any,
    id_column: str | None,
    features: Sequence[str],
    answers: Sequence[str],
    layout: SeriesLayout,
) -> SeriesFile:
    """Read a series from each row of a table of pyarrow.

    Args:
        path: The file, for errors.
        table: The table.
        id_column: The column of ids, or None: the numbers of the rows, from 1.
        features: One column for each feature, or one column of lists of steps.
        answers: The columns of the label or of the targets.
        layout: The options.

    Raises:
        DatasetError: A value is missing or not a number, or lists differ in length.
    """
    import numpy as np
    import pyarrow

    if not len(table):
        raise DatasetError(f"{path}: no rows")
    ids = _ids(path, table, id_column)
    nested = [name for name in features if is_list(table.schema.field(name).type.value_type)]
    if nested and len(features) > 1:
        raise DatasetError(
            f"{path}: {nested[0]!r} has lists of steps, so it must be the only column of features; "
            f"choose with feature_columns ({option('feature_columns')})"
        )
    if nested:
        values, lengths = _steps(path, table, nested[0], ids)
        names = tuple(map(str, range(values.shape[1])))
    else:
        names = tuple(features)
        columns = [_flat(path, table.column(name), name, ids) for name in names]
        lengths = columns[0][1]
        for name, (_, others) in zip(names, columns):
            if (rows := np.flatnonzero(lengths != others)).size:
                row = int(rows[0])
                raise DatasetError(
                    f"{path}, row {row + 1}: series {ids[row]!r}: {name!r} has {others[row]} "
                    f"values and {names[0]!r} has {lengths[row]}; all features of a series need "
                    "the same number of steps"
                )
        values = np.stack([found for found, _ in columns], 1)
    if (empty := np.flatnonzero(lengths == 0)).size:
        raise DatasetError(f"{path}: series {ids[int(empty[0])]!r} has no steps; leave it out")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    check_finite(str(path), values, offsets, ids, names)
    series = Series(ids, pieces(values, offsets))
    targets: tuple[str, ...] = ()
    if layout.answer == "label":
        (name,) = answers
        labels = table.column(name).to_pylist()
        found = [
            check_label(f"{path}, row {row}: series {key!r}", label, name)
            for row, (key, label) in enumerate(zip(ids, labels), start=1)
        ]
        series = series._replace(labels=tuple(found))
    elif layout.answer == "targets":
        targets = tuple(answers)
        try:
            numbers = [table.column(n).cast(pyarrow.float64()).to_numpy() for n in targets]
        except pyarrow.ArrowException as error:
            raise DatasetError(f"{path}: a target is not a number: {error}") from error
        stacked = np.stack(numbers, 1)
        check_targets(str(path), stacked, ids, targets)
        series = series._replace(targets=tuple(map(tuple, stacked.tolist())))
    roles = {"id": [id_column] if id_column else [], "features": features}
    return SeriesFile(names, targets, series, told(path, {**roles, layout.answer or "": answers}))


def _ids(path: Path, table: Any, column: str | None) -> tuple[str, ...]:
    if column is None:
        return tuple(map(str, range(1, len(table) + 1)))
    ids = table.column(column).to_pylist()
    for row, key in enumerate(ids, start=1):
        if key is None or key == "" or isinstance(key, float):
            raise DatasetError(
                f"{path}, row {row}: the id ({column!r}) must be a text or a whole number, "
                f"not {key!r}"
            )
    return check_ids(path, [str(key) for key in ids])


def _flat(path: Path, column: Any, name: str, ids: Sequence[str]) -> tuple[Any, Any]:
    """Return the numbers of all lists one after the other, and the length of each list."""
    import pyarrow

    inner, lengths = _opened(path, column, name, ids)
    types = pyarrow.types
    if not (types.is_integer(inner.type) or types.is_floating(inner.type)):
        raise DatasetError(
            f"{path}: the feature {name!r} has lists of {inner.type}, not of numbers"
        )
    return inner.cast(pyarrow.float64()).to_numpy(zero_copy_only=False), lengths


def _opened(path: Path, column: Any, name: str, ids: Sequence[str]) -> tuple[Any, Any]:
    """Return the elements of all lists, and the length (N,) of each list."""
    import pyarrow
    import pyarrow.compute

    whole = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if isinstance(whole, pyarrow.ChunkedArray):
        whole = pyarrow.concat_arrays(whole.chunks)
    if whole.null_count:
        row = whole.is_null().to_pylist().index(True)
        raise DatasetError(
            f"{path}, row {row + 1}: series {ids[row]!r}: the feature {name!r} is missing"
        )
    lengths = pyarrow.compute.list_value_length(whole)
    return whole.flatten(), lengths.to_numpy(zero_copy_only=False)


def _steps(path: Path, table: Any, name: str, ids: Sequence[str]) -> tuple[Any, Any]:
    """Return the numbers (S, F) of all steps, and the number of steps of each series."""
    import numpy as np

    steps, lengths = _opened(path, table.column(name), name, ids)
    series = np.repeat(np.arange(len(lengths)), lengths)
    if steps.null_count:
        at = int(series[steps.is_null().to_pylist().index(True)])
        raise DatasetError(f"{path}: series {ids[at]!r}: a step in {name!r} is missing")
    found, widths = _flat(path, steps, name, [ids[number] for number in series.tolist()])
    if not len(widths):
        raise DatasetError(f"{path}: {name!r} has no steps")
    if (other := np.flatnonzero(widths != widths[0])).size:
        place = int(other[0])
        step = place - int(np.searchsorted(series, series[place]))
        raise DatasetError(
            f"{path}: series {ids[int(series[place])]!r}, step {step}: {widths[place]} features, "
            f"and {widths[0]} in the first step of the file; all steps need the same features"
        )
    if widths[0] == 0:
        raise DatasetError(f"{path}: the steps in {name!r} are empty")
    return found.reshape(-1, int(widths[0])), lengths
