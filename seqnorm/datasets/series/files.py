"""Your own series, from a file, a folder or the parts of a .npz file.

A folder holds `train` and, if present, `validation` (or valid, val, dev) and `test`, each a file of
any of these kinds: .npz (see `npz`), .parquet, .csv and .tsv (see `tables`), .ts (see `ts`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..documents import DatasetError, Row
from ..layout import read_text
from ..own_files import with_whole_numbers
from .containers import SeriesFile, SeriesLayout, shown
from .npz import read_arrays, read_npz
from .tables import read_delimited, read_parquet
from .ts import read_ts

ENDINGS = (".npz", ".parquet", ".csv", ".tsv", ".ts")
PARTS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


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
    places: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        part = next((part for part, names in PARTS.items() if entry.stem in names), None)
        if part is None or not entry.is_file() or entry.suffix.lower() not in ENDINGS:
            continue
        if part in places:
            raise DatasetError(
                f"{path} has more than one {part} part: {places[part].name}, {entry.name}"
            )
        places[part] = entry
    if not places:
        raise DatasetError(
            f"{path} holds no train part: name a file train with one of the endings "
            f"{', '.join(ENDINGS)}"
        )
    return {part: read_file(places[part], layout) for part in PARTS if part in places}


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
    arrays = read_arrays(path)
    prefixes = {f"{name}_": part for part, names in PARTS.items() for name in names}
    parts: dict[str, dict[str, object]] = {}
    for name, array in arrays.items():
        prefix = next((each for each in prefixes if name.startswith(each)), "")
        inside = parts.setdefault(prefixes.get(prefix, ""), {})
        if (short := name[len(prefix) :]) in inside:
            raise DatasetError(f"{path}: {name!r} belongs to a part that has {short!r} already")
        inside[short] = array
    common = parts.pop("", {}) if len(parts) > 1 else {}
    if set(common) - {"features"}:
        raise DatasetError(
            f"{path}: {shown([*common])} beside arrays of parts; begin the names of all arrays "
            "with that of their part, as in train_values"
        )
    return {part: read_npz(path, {**common, **found}, layout) for part, found in parts.items()}
