"""Series in a .npz file of NumPy, in one of three forms.

- Padded: `values` (N, T, F), or (N, T) with one feature, and `lengths` (N,); without `lengths`, all
  series have T steps.
- One after the other: `values` (S, F) and `offsets` (N + 1,), from 0 to S. Series i has the steps
  from `offsets[i]` to `offsets[i + 1]`.
- One array for each series, `series_<id>` (T, F) or (T,), in the order of the file.

`labels` (N,), strings or whole numbers, or `targets` (N,) or (N, K) are in the order of the series.
`ids` (N,) and `features` (F,), the names of the features, are optional. In a file with several
parts, the name of each array begins with that of its part, as in `train_values` and `test_values`.
A file that has `values` or `series_<id>` itself has no parts, and `valid_mask` is no part of it.
Arrays of Python objects are refused, because reading them could run code.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqnorm.extra import explained

from ..documents import DatasetError
from .arrays import check_finite, check_targets, pieces
from .containers import (
    TARGETS,
    Series,
    SeriesFile,
    SeriesLayout,
    check_ids,
    check_label,
    known,
    shown,
    told,
)

ONE = "series_"
# The errors of NumPy for a file that is empty, damaged or no .npz file.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    zlib.error,
)
_FORMS = (
    "a file has values (N, T, F) and lengths (N,), or values (S, F) and offsets (N + 1,), or an "
    f"array {ONE}<id> (T, F) for each series"
)


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name; raise DatasetError if it cannot be read."""
    with explained(f"reading {path}"):
        import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        objects = " (arrays of Python objects are refused)" if "allow_pickle" in str(error) else ""
        raise DatasetError(f"{path}: not readable as arrays{objects}: {error}; {_FORMS}") from error


def holds_series(name: str) -> bool:
    """Return True for the name of an array that holds one or all series."""
    return name == "values" or name.startswith(ONE)


def read_npz(path: Path, arrays: Mapping[str, Any], layout: SeriesLayout) -> SeriesFile:
    """Read series from the arrays of a file, or of a part of it."""
    import numpy as np

    if layout.delimiter or layout.time_column:
        raise DatasetError(f"{path}: delimiter and time_column are for .csv files")
    alone = [name for name in arrays if name.startswith(ONE)]
    if bool(alone) == ("values" in arrays):
        raise DatasetError(f"{path}: its arrays are {shown(list(arrays)) or 'none'}; {_FORMS}")
    if alone:
        rows = [_matrix(path, name, arrays[name]) for name in alone]
        width = rows[0].shape[1]
        for name, row in zip(alone, rows):
            if row.shape[1] != width:
                raise DatasetError(
                    f"{path}: {name!r} has {row.shape[1]} features and {alone[0]!r} has {width}; "
                    "all series need the same features"
                )
        ids = check_ids(path, [name[len(ONE) :] for name in alone])
        values, offsets = np.concatenate(rows), np.cumsum([0, *map(len, rows)])
    else:
        values, offsets = _steps(path, arrays)
        if len(offsets) < 2:
            raise DatasetError(f"{path}: no series")
        ids = _ids(path, arrays, layout, len(offsets) - 1)
    if (empty := np.flatnonzero(np.diff(offsets) < 1)).size:
        raise DatasetError(f"{path}: series {ids[int(empty[0])]!r} has no steps; leave it out")
    count = values.shape[1]
    names = tuple(map(str, range(count)))
    if "features" in arrays:
        names = tuple(map(str, arrays["features"].tolist()))
        if len({*names}) != count:
            raise DatasetError(f"{path}: features has {shown(names)} for {count} different columns")
    chosen = layout.chosen_features if "features" in arrays else layout.feature_columns
    if chosen is not None:
        if "features" not in arrays and len(chosen) == count:
            names = chosen  # the file has none
        places = [names.index(known(path, name, names, "features")) for name in chosen]
        names, values = tuple(names[place] for place in places), values[:, places]
    check_finite(str(path), values, offsets, ids, names)
    answers = _answers(path, arrays, layout)
    series = Series(ids, pieces(values, offsets))
    targets: tuple[str, ...] = ()
    if layout.answer == "label":
        series = series._replace(labels=_labels(path, arrays[answers[0]], ids, answers[0]))
    elif layout.answer == "targets":
        targets, numbers = _targets(path, arrays, answers, ids)
        series = series._replace(targets=numbers)
    roles = {"features": names, layout.answer or "": answers}
    return SeriesFile(names, targets, series, told(path, roles))


def _answers(path: Path, arrays: Mapping[str, Any], layout: SeriesLayout) -> tuple[str, ...]:
    others = [n for n in arrays if not n.startswith(ONE) and n not in ("values", "features", "ids")]
    return layout.answers(path, [name for name in others if name not in ("lengths", "offsets")])


def _matrix(path: Path, name: str, array: Any) -> Any:
    """Return an array of real numbers with an axis of features, in float64."""
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: {name!r} holds {array.dtype}, not real numbers")
    array = array.astype("float64")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise DatasetError(f"{path}: {name!r} has the shape {array.shape}, not (steps, features)")
    return array


def _steps(path: Path, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the steps (S, F) of all series one after the other, and their offsets (N + 1,)."""
    import numpy as np

    values = arrays["values"]
    if "offsets" in arrays:
        if "lengths" in arrays:
            raise DatasetError(f"{path}: either lengths or offsets, not both; {_FORMS}")
        values, offsets = _matrix(path, "values", values), _whole(path, "offsets", arrays)
        right = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(values)
        if not right or (np.diff(offsets) < 0).any():
            raise DatasetError(
                f"{path}: offsets must rise from 0 to the {len(values)} steps of values, one more "
                f"than there are series"
            )
        return values, offsets
    if values.ndim == 2 and "lengths" in arrays:
        values = values[:, :, None]
    if values.ndim != 3:
        raise DatasetError(
            f"{path}: values has the shape {values.shape}, and there are no offsets; {_FORMS}"
        )
    count, steps, width = values.shape
    lengths = _whole(path, "lengths", arrays) if "lengths" in arrays else np.full(count, steps)
    if len(lengths) != count or (lengths < 0).any() or (lengths > steps).any():
        raise DatasetError(
            f"{path}: lengths must be {count} whole numbers from 1 to {steps}, as values has the "
            f"shape {values.shape}"
        )
    valid = np.arange(steps) < lengths[:, None]
    flat = _matrix(path, "values", values.reshape(count * steps, width))
    return flat[valid.reshape(-1)], np.cumsum([0, *lengths.tolist()])


def _whole(path: Path, name: str, arrays: Mapping[str, Any]) -> Any:
    array = arrays[name]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(f"{path}: {name} must be one row of whole numbers, not {array.dtype}")
    return array.astype("int64")


def _ids(
    path: Path, arrays: Mapping[str, Any], layout: SeriesLayout, count: int
) -> tuple[str, ...]:
    given = layout.id_in(list(arrays))
    name = "ids" if given is None else known(path, given, list(arrays), "ids")
    if name not in arrays:
        return tuple(map(str, range(count)))
    return check_ids(path, _of_series(path, name, arrays[name], count))


def _of_series(path: Path, name: str, array: Any, count: int) -> list[str]:
    if array.ndim != 1 or len(array) != count:
        raise DatasetError(
            f"{path}: {name!r} has the shape {array.shape}, not a value for each of {count} series"
        )
    return [str(value) for value in array.tolist()]


def _labels(path: Path, array: Any, ids: Sequence[str], name: str) -> tuple[str, ...]:
    _of_series(path, name, array, len(ids))
    return tuple(
        check_label(f"{path}: series {key!r}", label, name)
        for key, label in zip(ids, array.tolist())
    )


def _targets(
    path: Path, arrays: Mapping[str, Any], columns: Sequence[str], ids: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """Return the names of the targets, and those of each series."""
    import numpy as np

    found = [_matrix(path, name, arrays[name]) for name in columns]
    names: list[str] = []
    for name, array in zip(columns, found):
        if len(array) != len(ids):
            raise DatasetError(f"{path}: {name!r} has {len(array)} rows for {len(ids)} series")
        width = array.shape[1]
        short = name[:-1] if name == TARGETS[1] else name
        names += [short] if width == 1 else [f"{short}_{number}" for number in range(width)]
    numbers = np.concatenate(found, 1)
    check_targets(str(path), numbers, ids, names)
    return tuple(names), tuple(map(tuple, numbers.tolist()))
