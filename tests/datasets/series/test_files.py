"""Files of every kind give the same series; parts are found in folders and in .npz files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_series import arrays, assert_same_series, make, write_long, write_parquet

from seqnorm.datasets import DatasetError, SeriesLayout, load_series
from seqnorm.datasets.series.files import read_file

SERIES = make(7)
TARGETS = SeriesLayout(answer="targets", target_columns=("slope", "steps"))


def save(path: Path, form: str) -> Path:
    """Write the series in a form and return the file."""
    if form in ("padded", "offsets", "apart"):
        np.savez(path / "a.npz", **arrays(SERIES, form))
        return path / "a.npz"
    if form in ("lists", "nested"):
        write_parquet(path / "a.parquet", SERIES, form == "nested")
        return path / "a.parquet"
    if form == "long parquet":
        from pyarrow import csv, parquet

        write_long(path / "a.csv", SERIES)
        parquet.write_table(csv.read_csv(path / "a.csv"), path / "a.parquet")
        return path / "a.parquet"
    file = path / ("a.tsv" if form == "tabs" else "a.csv")
    write_long(file, SERIES, {"tabs": "\t", "semicolons": ";"}.get(form, ","))
    return file


TABLES = ["long", "tabs", "semicolons", "long parquet", "lists", "nested"]
ARRAYS = ["padded", "offsets", "apart"]


@pytest.mark.parametrize("form", [*TABLES, *ARRAYS])
def test_every_form_gives_the_same_series(form: str, tmp_path: Path) -> None:
    path = save(tmp_path, form)
    of_columns = {"feature_columns": ("x", "y")} if form.startswith(("l", "t", "s")) else {}
    layout = SeriesLayout(**of_columns)  # type: ignore[arg-type]
    found = read_file(path, layout)
    assert_same_series(found.series, SERIES)
    assert found.series.labels == tuple(each["label"] for each in SERIES.values())
    assert found.features == (("0", "1") if form == "nested" else ("x", "y"))
    assert found.series.targets == found.targets == ()
    assert found.told.startswith(path.name)
    goals = SeriesLayout(answer="targets") if form in ARRAYS else TARGETS
    with_targets = read_file(path, replace(goals, **of_columns))
    assert_same_series(with_targets.series, SERIES)
    assert with_targets.series.targets == tuple(tuple(s["targets"]) for s in SERIES.values())
    assert with_targets.series.labels == ()
    expected = ("target_0", "target_1") if form in ARRAYS else ("slope", "steps")
    assert with_targets.targets == expected
    without = read_file(path, SeriesLayout(answer=None, **of_columns))  # type: ignore[arg-type]
    assert without.series.labels == without.series.targets == ()


@pytest.mark.parametrize("form", ["long", "lists", "padded"])
def test_chosen_features_come_in_their_order(form: str, tmp_path: Path) -> None:
    path = save(tmp_path, form)
    for layout in (SeriesLayout(feature_columns=("y", "x")), SeriesLayout(wanted=("y", "x"))):
        found = read_file(path, layout)
        assert found.features == ("y", "x")
        for values, each in zip(found.series.values, SERIES.values()):
            assert values.flip(1).tolist() == each["values"]


def test_dates_and_ids_that_look_like_numbers(tmp_path: Path) -> None:
    lines = ["case;date;speed;class", "007;2024-01-02;2;3.0", "8;2024-01-01;5;1.0"]
    lines += ["007;2023-12-31;1;3.0"]
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    corpus = load_series(tmp_path / "a.csv")
    assert corpus.train.ids == ("007", "8")
    assert [values.tolist() for values in corpus.train.values] == [[[1.0], [2.0]], [[5.0]]]
    assert corpus.train.labels == ("3", "1")
    assert corpus.classes == ("1", "3")
    assert corpus.told == "a.csv: id 'case'; time 'date'; features 'speed'; label 'class'"


@pytest.mark.parametrize("start", ["sep=;\n", "\ufeffsep=;\r\n", "sep=;\n\n", "sep=|\n"])
def test_a_line_that_names_the_separator(start: str, tmp_path: Path) -> None:
    """It is the line that spreadsheets write; the header alone would be read with commas."""
    lines = ["id;time;x,y;label", "a;0;1.5;u", "a;1;2.5;u", "b;0;3.5;v"]
    text = start + "\n".join(lines) + "\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    given = "semicolon" if "|" in start else None
    found = read_file(tmp_path / "a.csv", SeriesLayout(delimiter=given))
    assert found.features == ("x,y",)
    assert [each.tolist() for each in found.series.values] == [[[1.5], [2.5]], [[3.5]]]


def test_arrays_without_names_or_lengths(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(2, 6)
    np.savez(tmp_path / "a.npz", values=values[:, :, None], labels=np.array([3, 1]))
    found = read_file(tmp_path / "a.npz", SeriesLayout())
    assert (found.features, found.series.ids, found.series.labels) == (
        ("0",),
        ("0", "1"),
        ("3", "1"),
    )
    assert torch.stack(found.series.values)[:, :, 0].tolist() == values.tolist()
    np.savez(tmp_path / "a.npz", values=values, lengths=np.array([6, 2]), y=np.array([0.5, 1.5]))
    layout = SeriesLayout(answer="targets", target_columns=("y",))
    found = read_file(tmp_path / "a.npz", layout)
    assert (found.series.lengths, found.targets) == ([6, 2], ("y",))
    named = read_file(tmp_path / "a.npz", SeriesLayout(answer=None, feature_columns=("speed",)))
    assert named.features == ("speed",)


def folder(tmp_path: Path, *names: str) -> Path:
    place = tmp_path / "parts"
    place.mkdir()
    for number, name in enumerate(names):
        write_long(place / name, make(4 + number, number))
    return place


LONG = SeriesLayout(feature_columns=("x", "y"))


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_the_parts_of_a_folder(name: str, tmp_path: Path) -> None:
    place = folder(tmp_path, "train.csv", f"{name}.csv", "test.csv", "notes.csv")
    corpus = load_series(place, layout=LONG)
    assert corpus.validation is not None
    assert corpus.test is not None
    for part, number in ((corpus.train, 0), (corpus.validation, 1), (corpus.test, 2)):
        assert_same_series(part, make(4 + number, number))


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_the_parts_of_an_npz_file(name: str, tmp_path: Path) -> None:
    of_parts = {"train": arrays(make(4), "padded"), name: arrays(make(5, 1), "apart")}
    of_parts["test"] = arrays(make(3, 2), "offsets")
    whole = {
        f"{part}_{key}": each for part, inner in of_parts.items() for key, each in inner.items()
    }
    np.savez(tmp_path / "a.npz", **whole)
    corpus = load_series(tmp_path / "a.npz")
    assert corpus.validation is not None
    assert corpus.test is not None
    for part, (count, seed) in zip(
        (corpus.train, corpus.validation, corpus.test), ((4, 0), (5, 1), (3, 2))
    ):
        assert_same_series(part, make(count, seed))
    with pytest.raises(DatasetError, match=r"has the parts 'train', '.*give a file of one part"):
        read_file(tmp_path / "a.npz", SeriesLayout())


def test_a_test_part_is_split_off(tmp_path: Path) -> None:
    write_long(tmp_path / "a.csv", make(40))
    assert load_series(tmp_path / "a.csv", layout=LONG).test is None
    corpus = load_series(tmp_path / "a.csv", layout=LONG, test_fraction=0.25)
    assert corpus.test is not None
    counts = [
        [part.labels.count(label) for label in corpus.classes]
        for part in (corpus.train, corpus.test)
    ]
    assert [sum(each) for each in zip(*counts)] == [
        [each["label"] for each in make(40).values()].count(label) for label in corpus.classes
    ]
    assert [int(0.25 * sum(each) + 0.5) for each in zip(*counts)] == counts[1]


LOOK_ALIKES = {
    "training": "'train'",
    "eval": r"'validation' \(or valid, val or dev\)",
    "Testing": "'test'",
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_names_that_are_like_those_of_parts(name: str, tmp_path: Path) -> None:
    part = "test" if name == "training" else "train"
    place = folder(tmp_path, f"{part}.csv", f"{name}.csv")
    message = rf"parts has {name}\.csv: call this part {LOOK_ALIKES[name]}$"
    with pytest.raises(DatasetError, match=message):
        load_series(place, layout=LONG)
    whole = {f"{each}_values": np.ones((2, 3, 1)) for each in (part, name)}
    np.savez(tmp_path / "a.npz", **whole)
    message = rf"a\.npz has {name}_: call this part {LOOK_ALIKES[name]}$"
    with pytest.raises(DatasetError, match=message):
        load_series(tmp_path / "a.npz", layout=SeriesLayout(answer=None))


def test_parts_are_found_in_any_case_of_their_letters(tmp_path: Path) -> None:
    place = folder(tmp_path, "Train.csv", "VALID.csv")
    corpus = load_series(place, layout=LONG)
    assert corpus.validation is not None
    assert_same_series(corpus.validation, make(5, 1))
    parts = {"Train": make(4), "Test": make(5, 1)}
    whole = {
        f"{part}_{key}": each
        for part, series in parts.items()
        for key, each in arrays(series, "padded").items()
    }
    np.savez(tmp_path / "a.npz", **whole)
    corpus = load_series(tmp_path / "a.npz")
    assert corpus.test is not None
    assert_same_series(corpus.test, make(5, 1))


@pytest.mark.parametrize("form", ARRAYS)
@pytest.mark.parametrize("extra", ["valid_mask", "train_weights", "testing_mask"])
def test_a_file_of_one_part_may_have_other_arrays(form: str, extra: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays(SERIES, form), **{extra: np.ones(7)})
    assert_same_series(read_file(tmp_path / "a.npz", SeriesLayout()).series, SERIES)


def test_series_beside_those_of_a_part_are_refused(tmp_path: Path) -> None:
    values = np.ones((2, 3, 1))
    for names in (("values", "test_values"), ("series_a", "train_series_b")):
        np.savez(tmp_path / "a.npz", **dict.fromkeys(names, values))
        with pytest.raises(DatasetError, match=f"'{names[0]}' beside arrays of parts"):
            load_series(tmp_path / "a.npz", layout=SeriesLayout(answer=None))


def copied(place: Path) -> None:
    (place / "test.tsv").write_text((place / "test.csv").read_text())


def of_other_features(place: Path) -> None:
    text = (place / "test.csv").read_text()
    (place / "test.csv").write_text(text.replace("id,time,x,y", "id,time,x,z"))


WRONG_FOLDERS: dict[str, tuple[Callable[[Path], None], SeriesLayout]] = {
    "more than one test part: test.csv, test.tsv": (copied, LONG),
    "'test' but no train part": (lambda place: (place / "train.csv").unlink(), LONG),
    "the test part has the features 'x', 'z', .* and the train part 'x', 'y'": (
        of_other_features,
        SeriesLayout(),
    ),
}


@pytest.mark.parametrize("message", WRONG_FOLDERS)
def test_folders_that_are_refused(message: str, tmp_path: Path) -> None:
    place = folder(tmp_path, "train.csv", "test.csv")
    change, layout = WRONG_FOLDERS[message]
    change(place)
    with pytest.raises(DatasetError, match=message):
        load_series(place, layout=layout)


def test_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"neither a corpus of series \(japanese_vowels\) nor"):
        load_series("nothing")
    with pytest.raises(DatasetError, match=r"name a file train with one of the endings \.npz"):
        load_series(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(DatasetError, match=r"a file of series must end in one of .npz, .parquet"):
        load_series(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"takes neither columns nor test_fraction; .*'\./japan"):
        load_series("japanese_vowels", layout=LONG)
    with pytest.raises(ValueError, match="has labels: use --task series_classification"):
        load_series("japanese_vowels", layout=SeriesLayout(answer="targets"))
    whole = folder(tmp_path, "train.csv", "test.csv")
    with pytest.raises(ValueError, match="has a test part of its own"):
        load_series(whole, layout=LONG, test_fraction=0.2)
