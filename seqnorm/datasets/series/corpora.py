"""Corpora of series by name, `load_series`, which also reads your own files, and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from ..documents import DatasetError
from ..fetching import load_members
from ..folding import Fold, about, in_fold
from ..splitting import chosen_by_class, whole_up_from_half
from .containers import Series, SeriesCorpus, SeriesLayout
from .files import read_parts
from .japanese_vowels import JAPANESE_VOWELS, SeriesSource

SERIES_CORPORA: Mapping[str, SeriesSource] = {JAPANESE_VOWELS.name: JAPANESE_VOWELS}


def load_series(
    name_or_path: str | Path,
    *,
    root: str | Path = "data",
    layout: SeriesLayout | None = None,
    test_fraction: float | None = None,
    fold: Fold | None = None,
) -> SeriesCorpus:
    """Load a corpus by name (see `SERIES_CORPORA`), fetched on first use, or your own files.

    A name has priority over a path: write "./japanese_vowels" for a folder of that name. The kinds
    of files are listed in `seqnorm.datasets.series.files`.

    Args:
        root: The folder that corpora are fetched into.
        layout: The columns of your own files, and whether they have labels or targets.
        test_fraction: The fraction to split off as a test part, of your own series without one.
        fold: The part that becomes the test part, for cross-validation, see `load_corpus`. Series
            with targets are divided without regard to them.

    Raises:
        FetchError: A corpus cannot be fetched.
        DatasetError: The data cannot be used.
        ValueError: An argument for your own files is given for a corpus that takes none.
    """
    name, layout = str(name_or_path), layout or SeriesLayout()
    notice = ""
    if name in SERIES_CORPORA:
        if layout.answer == "targets":
            raise ValueError(f"the corpus {name!r} has labels: use --task series_classification")
        if replace(layout, wanted=None) != SeriesLayout() or test_fraction is not None:
            raise ValueError(
                f"the corpus {name!r} has labels, and takes neither columns nor test_fraction; for "
                f"a file or folder of that name write './{name}'"
            )
        source = SERIES_CORPORA[name]
        notice = source.notice
        members = list(source.members.values())
        parts = source.read(load_members(source.package, members, root, notice))
    elif name and Path(name).exists():  # Path("") is the current folder
        name = str(Path(name))
        parts = read_parts(Path(name), layout)
    else:
        raise DatasetError(
            f"{name or repr(name)} is neither a corpus of series ({', '.join(SERIES_CORPORA)}) nor "
            "an existing file or folder"
        )
    train, test = parts["train"].series, parts["test"].series if "test" in parts else None
    if test_fraction is not None:
        if test is not None:
            raise ValueError(f"{name} has a test part of its own; leave test_fraction out")
        train, test = split_series(train, test_fraction)
    validation = parts["validation"].series if "validation" in parts else None
    first = parts["train"]
    told = first.told
    if fold is not None:
        untouched = 0 if test is None else len(test.ids)
        of_validation = 0 if validation is None else len(validation.ids)
        train, test = split_series_fold(_joined(train, validation), fold, name)
        validation = None
        sizes = len(test.ids), len(train.ids)
        line = about(fold, *sizes, "series", untouched, of_validation)
        told = "\n".join(filter(None, (told, line)))
    return SeriesCorpus(name, first.features, first.targets, train, validation, test, told, notice)


def load_one_part(path: str | Path, layout: SeriesLayout) -> SeriesCorpus:
    """Load a file; without parts, its series are each of the parts.

    Raises DatasetError as `load_series` does.
    """
    parts = read_parts(Path(path), layout)
    train = parts["train"]
    if len(parts) > 1:
        return load_series(path, layout=layout)
    names = train.features, train.targets
    every = (train.series,) * 3
    return SeriesCorpus(str(Path(path)), *names, *every, told=train.told)


def split_series(series: Series, fraction: float = 0.1, seed: int = 0) -> tuple[Series, Series]:
    """Split `series` as `split_validation` splits documents: a seeded choice from each class.

    Series with targets are one class. The choice depends on the numbers of the series only.

    Raises ValueError for a fraction outside (0, 1), and DatasetError if a part would be empty.
    """
    ranks = _ranks(series, f"{seed}:")
    chosen = chosen_by_class(_classes(series), ranks, fraction, whole_up_from_half, "series")
    return _apart(series, chosen)


def split_series_fold(series: Series, fold: Fold, name: str) -> tuple[Series, Series]:
    """Split `series` into those outside of `fold` and those in it, as `split_fold` does.

    Series with targets are divided without regard to them. The division depends on `fold.seed` and
    the numbers of the series only.

    Raises DatasetError, which names the corpus, if there are too few series.
    """
    ranks = _ranks(series, fold.key(""))
    return _apart(series, in_fold(name, series.labels or None, ranks, fold, "series"))


def _ranks(series: Series, start: str) -> list[bytes]:
    return [
        hashlib.sha256(f"{start}{tuple(each.shape)}:".encode() + each.numpy().tobytes()).digest()
        for each in series.values
    ]


def _joined(train: Series, validation: Series | None) -> Series:
    """Return the series of both parts; ids that both have are told apart."""
    if validation is None:
        return train
    ids = {*train.ids}
    apart = (f"validation_{each}" if each in ids else each for each in validation.ids)
    return Series(
        (*train.ids, *apart),
        train.values + validation.values,
        train.labels + validation.labels,
        train.targets + validation.targets,
    )


def split_last_series(series: Series, fraction: float = 0.1) -> tuple[Series, Series]:
    """Split `series` as `split_last` splits documents: the last ones of each class.

    Raises ValueError for a fraction outside (0, 1), and DatasetError if a part would be empty.
    """
    ranks = range(len(series.ids), 0, -1)
    return _apart(series, chosen_by_class(_classes(series), ranks, fraction, round, "series"))


def _classes(series: Series) -> Sequence[str]:
    return series.labels or ("",) * len(series.ids)


def _apart(series: Series, chosen: Sequence[bool]) -> tuple[Series, Series]:
    places = range(len(series.ids))
    kept = list(compress(places, [not flag for flag in chosen]))
    return series.at(kept), series.at(list(compress(places, chosen)))
