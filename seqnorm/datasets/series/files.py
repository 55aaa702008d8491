"""Your own series, from a file, a folder or the parts of a .npz file.

A folder holds `train` and, if present, `validation` and `test`, named as `seqnorm.datasets.parts`
says. Each of them is a file of any of these kinds: .npz (see `npz`), .parquet, .csv and .tsv (see
`tables`), .ts (see `ts`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..documents import DatasetError, Row
from ..layout import read_text
from ..own_files import with_whole_numbers
from ..parts import parts_by_name
from .containers import SeriesFile, SeriesLayout, shown
from .npz import holds_series, read_arrays, read_npz
from .tables import read_delimited, read_parquet
from .ts import read_ts

ENDINGS = (".npz", ".parquet", ".csv", ".tsv", ".ts")


def read_file(path: Path, layout: SeriesLayout) -> SeriesFile:
    """Read the series of a file without parts.

    Raises DatasetError if something is missing or cannot be read.
    """
    parts = _read_parts(path, layout)
    if [*parts] != [""]:
        raise DatasetError(f"{path} has the parts {shown([*parts])}; give a file of one part")
    return parts[""]


def read_parts(path: Path, layout: SeriesLayout) -> dict[str, SeriesFile]:
    """Read "train", "validation" and "test", as far as there are such parts.

    A file without parts is the training part. Raises DatasetError as `read_file` does, or if the
    parts have different features or targets.
    """
    parts = _read_folder(path, layout) if path.is_dir() else _read_parts(path, layout)
    if [*parts] == [""]:
        parts = {"train": parts[""]}
    if "train" not in parts:
        raise DatasetError(f"{path} has {shown([*parts])} but no train part")
    first = parts["train"]
    for part, found in parts.items():
        for ours, theirs, kind in (
            (found.features, first.features, "features"),
            (found.targets, first.targets, "targets"),
        ):
            if ours != theirs:
                raise DatasetError(
                    f"{path}: the {part} part has the {kind} {shown(ours)} and the train part "
                    f"{shown(theirs)}; all parts need the same, in the same order"
                )
    whole = with_whole_numbers(
        str(path),
        {part: [Row("", label) for label in each.series.labels] for part, each in parts.items()},
    )
    return {
        part: replace(
            found, series=found.series._replace(labels=tuple(row.label for row in whole[part]))
        )
        for part, found in parts.items()
    }


def _read_folder(path: Path, layout: SeriesLayout) -> dict[str, SeriesFile]:
    files = (
        entry
        for entry in sorted(path.iterdir())
        if entry.suffix.lower() in ENDINGS and entry.is_file() and entry.name[0] != "."
    )
    names = parts_by_name(path, ((entry.stem, entry.name) for entry in files))
    if not names:
        raise DatasetError(
            f"{path} holds no train part: name a file train with one of the endings "
            f"{', '.join(ENDINGS)}"
        )
    return {part: read_file(path / name, layout) for part, name in names.items()}


def _read_parts(path: Path, layout: SeriesLayout) -> dict[str, SeriesFile]:
    """Read a file, by its ending; its one part is "" unless the file names parts."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DatasetError(f"{path}: a file of series must end in one of {', '.join(ENDINGS)}")
    if ending == ".npz":
        return _read_npz(path, layout)
    if ending == ".parquet":
        return {"": read_parquet(path, layout)}
    if ending == ".ts":
        return {"": read_ts(path, read_text(path), layout.answer)}
    return {"": read_delimited(path, layout)}


def _read_npz(path: Path, layout: SeriesLayout) -> dict[str, SeriesFile]:
    """Read a file of arrays; the names of its arrays may begin with those of parts."""
    arrays = read_arrays(path)
    starts: dict[str, bool] = {}  # with True if series follow
    for name in arrays:
        for end in (place + 1 for place, character in enumerate(name) if character == "_"):
            starts[name[:end]] = starts.get(name[:end], False) or holds_series(name[end:])
    # Beside series without a part, an array that is no series may have any name, as valid_mask.
    alone = any(map(holds_series, arrays))
    named = ((start[:-1], start) for start, is_part in starts.items() if is_part or not alone)
    starts_of_parts = parts_by_name(path, named)
    if not starts_of_parts:
        return {"": read_npz(path, arrays, layout)}
    parts: dict[str, dict[str, object]] = {part: {} for part in starts_of_parts}
    common = {}
    for name, array in arrays.items():
        for part, start in starts_of_parts.items():
            if name.startswith(start):
                parts[part][name[len(start) :]] = array
                break
        else:
            common[name] = array
    if set(common) - {"features"}:
        raise DatasetError(
            f"{path}: {shown([*common])} beside arrays of parts; begin the names of all arrays "
            "with that of their part, as in train_values"
        )
    return {part: read_npz(path, {**common, **found}, layout) for part, found in parts.items()}
