"""Data that cannot be used are refused, with the place and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from small_series import arrays, make, table

from seqnorm.datasets import DatasetError, SeriesLayout
from seqnorm.datasets.series.files import read_file

LONG = "id,time,x,y,label\na,0,1,2,u\na,1,3,4,u\nb,0,5,6,v\n"
TARGET = LONG.replace("label", "target").replace(",u", ",1").replace(",v", ",2")
GOALS = SeriesLayout(answer="targets")
# The text of a file, the options and the message.
TEXTS: dict[str, tuple[str, SeriesLayout, str]] = {
    "missing": (
        LONG.replace("a,1,3,", "a,1,,"),
        SeriesLayout(),
        r"a.csv: series 'a', step 1 \(time 1\): the feature 'x' is missing \(NaN\); fill in",
    ),
    "na": (
        LONG.replace("5,6", "NA,NaN"),
        SeriesLayout(),
        r"series 'b', step 0 \(time 0\): the feature 'x' is missing \(NaN\); 2 values in all;",
    ),
    "infinite": (LONG.replace("4", "inf"), SeriesLayout(), "step 1 .* feature 'y' is infinite"),
    "no number": (
        LONG.replace("4", "four"),
        SeriesLayout(),
        "a.csv, row 2: the feature 'y' holds 'four', not a number; .*--data.feature_columns",
    ),
    "label": (
        LONG.replace("3,4,u", "3,4,v"),
        SeriesLayout(),
        r"row 2: the label \('label'\) of series 'a' is 'v' here and 'u' before",
    ),
    "no label": (LONG.replace("6,v", "6,"), SeriesLayout(), r"series 'b': the label .* missing"),
    "target": (
        TARGET.replace("3,4,1", "3,4,2"),
        GOALS,
        r"row 2: the target \('target'\) of series 'a' is 2.0 here and 1.0 before",
    ),
    "no target": (TARGET.replace("6,2", "6,"), GOALS, "series 'b': the target 'target' is missing"),
    "text as target": (
        TARGET.replace("6,2", "6,two"),
        GOALS,
        "row 3: the target 'target' holds 'two', not a number; .*target_columns",
    ),
    "time": (
        LONG.replace("a,1,3", "a,0,3"),
        SeriesLayout(),
        "rows 1 and 2: series 'a' has the time 0 twice",
    ),
    "no time": (LONG.replace("a,1,", "a,,"), SeriesLayout(), r"row 2: a time .* 'a' is missing"),
    "text as time": (
        LONG.replace("a,1,", "a,late,"),
        SeriesLayout(),
        "the times .'time'. must be numbers or dates in ISO form",
    ),
    "no id": (LONG.replace("b,0", ",0"), SeriesLayout(), r"row 3: the id \('id'\) is missing"),
    "guess": (LONG.replace("id,", "who,"), SeriesLayout(), "not clear which is the id .*id_column"),
    "guesses": (
        LONG.replace("y,", "case,"),
        SeriesLayout(),
        "'id', 'case' may each be the id among .* id_column",
    ),
    "which label": (LONG.replace("x,", "class,"), SeriesLayout(), "may each be the label"),
    "unknown": (LONG, SeriesLayout(feature_columns=("z",)), r"no column 'z' \(features\); there"),
    "unknown label": (LONG, SeriesLayout(label_column="z"), r"no column 'z' \(label\)"),
    "twice": (LONG.replace("y,", "x,"), SeriesLayout(), r"more than one column 'x' \(features\)"),
    "both": (LONG, SeriesLayout(feature_columns=("x", "id")), "'id' cannot also be a feature"),
    "fields": (LONG + "b,1,2\n", SeriesLayout(), "not readable as fields by ',': .*columns, got 3"),
    "header": ("id,time,x,label\n", SeriesLayout(), "a.csv: no rows"),
    "empty": ("", SeriesLayout(), "the file is empty"),
    "separator alone": ("sep=;\n\n", SeriesLayout(), "no header and no rows after sep=;$"),
    "separator": ('sep="\n' + LONG, SeriesLayout(), "give comma, semicolon, tab, pipe"),
    "delimiter": (LONG, SeriesLayout(delimiter="::"), "give comma, semicolon, tab, pipe"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_long_tables(name: str, tmp_path: Path) -> None:
    text, layout, message = TEXTS[name]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_file(tmp_path / "a.csv", layout)


def test_no_column_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,time,label\na,0,b\n")
    with pytest.raises(DatasetError, match="no column is left for features"):
        read_file(tmp_path / "a.csv", SeriesLayout())


X = {"id": ["a", "b"], "x": [[1.0, 2.0], [3.0]], "y": [[1.0, 2.0], [3.0]], "label": ["u", "v"]}
S = {"s": [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], "label": ["u", "v"]}
LISTS: dict[str, tuple[dict[str, Any], SeriesLayout, str]] = {
    "lengths": (
        {**X, "y": [[1.0, 2.0], [3.0, 4.0]]},
        SeriesLayout(),
        "row 2: series 'b': 'y' has 2 values and 'x' has 1; all features",
    ),
    "missing": ({**X, "y": [[1.0, None], [3.0]]}, SeriesLayout(), "'a', step 1: the feature 'y'"),
    "no list": ({**X, "y": [[1.0, 2.0], None]}, SeriesLayout(), "row 2: series 'b': .*'y' is miss"),
    "empty": ({**X, "x": [[1.0, 2.0], []], "y": [[1.0, 2.0], []]}, SeriesLayout(), "'b' has no st"),
    "texts": ({**X, "y": [["p", "q"], ["r"]]}, SeriesLayout(), "'y' has lists of string, not of"),
    "ids": ({**X, "id": ["a", "a"]}, SeriesLayout(), "more than one series has the id 'a'"),
    "no id": ({**X, "id": ["a", None]}, SeriesLayout(), "row 2: the id .'id'. must be a text"),
    "label": (
        {**X, "label": ["u", None]},
        SeriesLayout(),
        "row 2: series 'b': the label .*missing",
    ),
    "time": (X, SeriesLayout(time_column="time"), "time_column is for tables with one row for"),
    "target": (
        {**X, "target": [1.0, None]},
        GOALS,
        "series 'b': the target 'target' is missing",
    ),
    "text as target": ({**X, "target": ["1", "x"]}, GOALS, "a target is not a number"),
    "widths": (
        {**S, "s": [[[1.0, 2.0]], [[3.0, 4.0], [5.0]]]},
        SeriesLayout(),
        "series '2', step 1: 1 features, and 2 in the first step",
    ),
    "no step": ({**S, "s": [[[1.0, 2.0]], [None]]}, SeriesLayout(), "'2': a step in 's' is missin"),
    "gap": ({**S, "s": [[[1.0, None]], [[3.0, 4.0]]]}, SeriesLayout(), "step 0: the feature '1'"),
    "two": ({**S, "x": [[1.0], [2.0]]}, SeriesLayout(), "'s' has lists of steps, so it must be"),
    "delimiter": (X, SeriesLayout(delimiter=","), "delimiter is for .csv and .tsv files"),
    "no rows": (
        {"x": pyarrow.array([], pyarrow.list_(pyarrow.float64())), "label": []},
        SeriesLayout(),
        "no rows",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_tables_of_lists(name: str, tmp_path: Path) -> None:
    columns, layout, message = LISTS[name]
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=message):
        read_file(tmp_path / "a.parquet", layout)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(DatasetError, match="not readable as Parquet"):
        read_file(tmp_path / "a.parquet", SeriesLayout())


SERIES = make(3)


def changed(form: str, **changes: Any) -> dict[str, Any]:
    found = {**arrays(SERIES, form), **changes}
    return {name: array for name, array in found.items() if array is not None}


def gap(form: str) -> Any:
    values = arrays(SERIES, form)["values"].copy()
    values.reshape(-1)[3] = np.nan
    return values


STEPS = sum(len(each["values"]) for each in SERIES.values())
NPZ: dict[str, tuple[dict[str, Any], SeriesLayout, str]] = {
    "gap": (
        changed("padded", values=gap("padded")),
        SeriesLayout(),
        "'s0', step 1: the feature 'y'",
    ),
    "gap of steps": (changed("offsets", values=gap("offsets")), SeriesLayout(), "'s0', step 1"),
    "objects": (
        changed("padded", values=np.array([[1.0], None], dtype=object)),
        SeriesLayout(),
        "not readable as arrays .arrays of Python objects are refused.",
    ),
    "neither": (
        changed("padded", values=None),
        SeriesLayout(),
        "its arrays are .*; a file has val",
    ),
    "both": (changed("padded", offsets=np.array([0, 1])), SeriesLayout(), "either lengths or off"),
    "lengths": (
        changed("padded", lengths=np.array([9, 9, 99])),
        SeriesLayout(),
        "lengths must be 3",
    ),
    "float lengths": (
        changed("padded", lengths=np.array([1.0, 1.0, 1.0])),
        SeriesLayout(),
        "lengths must be one row of whole numbers, not float64",
    ),
    "offsets": (
        changed("offsets", offsets=np.array([0, 5, 4, STEPS])),
        SeriesLayout(),
        f"offsets must rise from 0 to the {STEPS} steps",
    ),
    "no offsets": (changed("offsets", offsets=None), SeriesLayout(), "there are no offsets"),
    "no steps": (
        changed("offsets", offsets=np.array([0, 4, 4, STEPS])),
        SeriesLayout(),
        "series 's1' has no steps",
    ),
    "no series": (
        {"values": np.ones((0, 5, 2)), "labels": np.array([], dtype=str)},
        SeriesLayout(),
        r"a\.npz: no series$",
    ),
    "no series of steps": (
        {"values": np.ones((0, 2)), "offsets": np.array([0]), "labels": np.array([], dtype=str)},
        SeriesLayout(),
        r"a\.npz: no series$",
    ),
    "widths": (
        changed("apart", series_s1=np.ones((3, 3))),
        SeriesLayout(),
        "'series_s1' has 3 features and 'series_s0' has 2; all series need the same features",
    ),
    "shape": (
        changed("apart", series_s1=np.ones((3, 3, 3))),
        SeriesLayout(),
        "not .steps, feature",
    ),
    "texts": (
        changed("padded", values=np.array([[["a"]] * 9] * 3)),
        SeriesLayout(),
        "holds <U1, not real",
    ),
    "labels": (
        changed("padded", labels=np.array(["a"])),
        SeriesLayout(),
        "not a value for each of",
    ),
    "no label": (
        changed("padded", labels=np.array(["a", "", "b"])),
        SeriesLayout(),
        "'s1': the lab",
    ),
    "targets": (changed("padded", targets=np.ones(2)), GOALS, "'targets' has 2 rows for 3 series"),
    "gap in targets": (
        changed("padded", targets=np.array([1, np.nan, 2])),
        GOALS,
        "'s1': the target 'target' is missing",
    ),
    "names": (changed("padded", features=np.array(["x"])), SeriesLayout(), "for 2 different colum"),
    "unknown": (
        changed("padded"),
        SeriesLayout(feature_columns=("z",)),
        "no column 'z' .features.",
    ),
    "ids": (changed("padded", ids=np.array(["a", "a", "b"])), SeriesLayout(), "the id 'a'"),
    "columns": (changed("padded"), SeriesLayout(time_column="t"), "are for .csv files"),
    "parts": (
        {**{f"train_{n}": a for n, a in changed("padded").items()}, "labels": np.array(["a"])},
        SeriesLayout(),
        "beside arrays of parts",
    ),
}


@pytest.mark.parametrize("name", NPZ)
def test_arrays(name: str, tmp_path: Path) -> None:
    found, layout, message = NPZ[name]
    np.savez(tmp_path / "a.npz", **found)
    with pytest.raises(DatasetError, match=message):
        read_file(tmp_path / "a.npz", layout)


@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_file_that_is_no_npz(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.npz: not readable as arrays"):
        read_file(tmp_path / "a.npz", SeriesLayout())


def test_a_damaged_npz_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", values=np.arange(4000.0).reshape(10, 200, 2))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:200] = b"\xff" * 140
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.npz: not readable as arrays.*decompressing"):
        read_file(tmp_path / "a.npz", SeriesLayout(answer=None))


def test_the_tables_of_these_tests_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LONG)
    assert read_file(tmp_path / "a.csv", SeriesLayout()).series.labels == ("u", "v")
    (tmp_path / "a.csv").write_text(TARGET)
    assert read_file(tmp_path / "a.csv", GOALS).series.targets == ((1.0,), (2.0,))
    for columns in (pyarrow.table(X), pyarrow.table(S), table(SERIES)):
        parquet.write_table(columns, tmp_path / "a.parquet")
        assert read_file(tmp_path / "a.parquet", SeriesLayout()).series.lengths
