from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqnorm.datasets import DatasetError
from seqnorm.datasets.documents import Row
from seqnorm.datasets.own_files import read
from seqnorm.datasets.record_files import Layout

ROWS = [Row("good, really", "pos"), Row('so "bad"\nindeed', "neg"), Row("  ", "neg")]


def write_csv(path: Path, rows: list[Row] = ROWS) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(["number", "label", "text"])
        writer.writerows((number, row.label, row.text) for number, row in enumerate(rows))


def write_jsonl(path: Path, rows: list[Row] = ROWS) -> None:
    lines = (json.dumps({"label": row.label, "text": row.text, "x": None}) for row in rows)
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def write_parquet(path: Path, rows: list[Row] = ROWS) -> None:
    write_table(path, {"text": [row.text for row in rows], "label": [row.label for row in rows]})


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)


def write_folders(path: Path, rows: list[Row] = ROWS) -> None:
    for number, row in enumerate(rows):
        folder = path / row.label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(row.text, encoding="utf-8")


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "train.csv": write_csv,
    "train.tsv": write_csv,
    "train.jsonl": write_jsonl,
    "train.parquet": write_parquet,
    "train": write_folders,
}


def read_default(path: Path) -> dict[str, list[Row]]:
    return read(path, Layout())


def message(path: Path, text_column: str = "text", label_column: str = "label") -> str:
    with pytest.raises(DatasetError) as caught:
        read(path, Layout(text_column, label_column))
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_each_layout_alone_and_as_a_part(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("ignored", encoding="utf-8")
    # Folders are read class by class.
    rows = ROWS if name != "train" else sorted(ROWS, key=lambda row: row.label)
    assert read_default(tmp_path / name) == {"train": rows}
    assert read_default(tmp_path) == {"train": rows}
    write_jsonl(tmp_path / "test.jsonl", ROWS[:1])
    write_folders(tmp_path / "validation", ROWS[1:2])
    assert read_default(tmp_path) == {
        "train": rows,
        "validation": ROWS[1:2],
        "test": ROWS[:1],
    }


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_columns_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[f"train{path.suffix}"](path, ROWS)
    path.write_text(path.read_text("utf-8").replace("label", "stars"), encoding="utf-8")
    assert read(path, Layout(label_column="stars")) == {"train": ROWS}
    text = message(path)
    assert f"{path}, line 1: no column 'label'; there are " in text
    assert "'stars', 'text'" in text
    assert "; name the right ones with text_column and label_column" in text


def test_byte_order_mark_line_ends_and_long_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = "word " * 100_000
    path.write_bytes(f"\ufefftext,label\r\n\r\n{long},a\r\nshort,b\r\n".encode())
    csv.field_size_limit(131_072)
    assert read_default(path) == {"train": [Row(long, "a"), Row("short", "b")]}
    assert csv.field_size_limit() == 131_072


def test_labels_may_be_numbers_or_truth_values(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\n".join(f'{{"text": "x", "label": {label}}}' for label in ("0", "true", '" a "')),
        encoding="utf-8",
    )
    assert [row.label for row in read_default(path)["train"]] == ["0", "true", "a"]
    write_table(tmp_path / "a.parquet", {"text": ["x", "y"], "label": [3, 4]})
    assert [row.label for row in read_default(tmp_path / "a.parquet")["train"]] == ["3", "4"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", ": the file is empty"),
        ("a.csv", b" \n\n", ": the file is empty"),
        ("a.csv", b"text,label\n", ": no documents"),
        ("a.csv", b'text,label\nx,a\n"y,b\nz,a\n', ", line 3: broken quoting in the record that"),
        ("a.csv", b'text,label\n"x" y,a\n', ", line 2: broken quoting"),
        ("a.tsv", b'text\tlabel\n"x" y\ta\n', ", line 2: broken quoting"),
        ("a.csv", b"text,label\nx,a\n\ny, z,b\n", ", line 4: 3 fields where the header has 2"),
        ("a.csv", b'text,label\n"x\ny",a\nz\n', ", line 4: 1 fields where the header has 2"),
        ("a.csv", b"text,label\nx, \n", ", line 2: 'label' is missing or empty"),
        ("a.csv", b"text,text,label\nx,y,a\n", ", line 1: more than one column 'text'"),
        ("a.csv", b"text,label\nx,a\ny\0,b\n", ", line 3: a NUL character"),
        ("a.csv", b"text,label\nx,a\n\xe9,b\n", ", line 3: not UTF-8"),
        ("a.csv", "text,label\nx,a\n".encode("utf-16"), ", line 1: not UTF-8"),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": "x"\n', ", line 2: not JSON"),
        ("a.jsonl", b"[" * 100_000, ", line 1: not JSON"),
        ("a.jsonl", b'\n["x", "a"]\n', ", line 2: not a JSON object"),
        ("a.jsonl", b'{"label": "a"}\n', ", line 1: no column 'text'; there are 'label'"),
        ("a.jsonl", b'{"text": "x"}\n', ", line 1: no column 'label'"),
        ("a.jsonl", b'{"text": "x", "label": null}\n', ", line 1: 'label' is missing"),
        ("a.jsonl", b'{"text": "x", "label": 0.5}\n', ", line 1: 'label' must be a string, an"),
        ("a.jsonl", b'{"text": 5, "label": "a"}\n', ", line 1: 'text' must be a string, not 5"),
        ("a.jsonl", b'{"text": "\\u0000", "label": "a"}\n', ", line 1: a NUL character"),
        ("a.jsonl", b'{"text": "\\ud83d", "label": "a"}\n', ", line 1: half of a surrogate"),
        ("a.parquet", b"PAR1 but no more", ": not readable as Parquet"),
        ("a.parquet", b"", ": not readable as Parquet"),
        ("a.txt", b"x", ": a file must end in one of .csv, .tsv, .jsonl, .json, .parquet"),
    ],
)
def test_bad_files_are_named_with_the_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    assert message(path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["x"], "stars": ["a"]}, ": no column 'label'; there are 'text', 'stars'"),
        ({"text": ["x", "y"], "label": ["a", None]}, ", row 2: 'label' is missing"),
        ({"text": ["x", None], "label": ["a", "b"]}, ", row 2: 'text' must be a string, not None"),
        ({"text": ["x"], "label": [0.5]}, ", row 1: 'label' must be a string, an integer"),
        ({"text": [], "label": []}, ": no documents"),
    ],
)
def test_bad_tables_are_named_with_the_row(
    tmp_path: Path, columns: dict[str, list[Any]], expected: str
) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, columns)
    assert message(path).startswith(f"{path}{expected}")


def test_table_that_is_not_utf8(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    invalid = pyarrow.array([b"fine", b"\xff"]).view(pyarrow.string())
    write_table(tmp_path / "a.parquet", {"text": invalid, "label": ["a", "b"]})
    assert "Invalid UTF8 sequence" in message(tmp_path / "a.parquet")


def test_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'seqnorm\[train\]'"):
        read_default(path)


def test_bad_folders(tmp_path: Path) -> None:
    assert f"{tmp_path} holds neither a train part" in message(tmp_path)

    write_csv(tmp_path / "test.csv")
    assert message(tmp_path) == f"{tmp_path} has test but no train part"

    write_csv(tmp_path / "train.csv")
    write_jsonl(tmp_path / "train.jsonl")
    assert "more than one train part: train.csv, train.jsonl" in message(tmp_path)
    (tmp_path / "train.jsonl").unlink()

    write_csv(tmp_path / "training.csv")
    assert message(tmp_path) == f"{tmp_path} has training.csv: call this part 'train'"
    (tmp_path / "training.csv").rename(tmp_path / "eval.csv")
    assert message(tmp_path).endswith("call this part 'validation' (or valid, val or dev)")
    (tmp_path / "eval.csv").rename(tmp_path / "val.csv")
    write_csv(tmp_path / "dev.csv")
    assert "more than one validation part: dev.csv, val.csv" in message(tmp_path)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "Val"])
def test_names_of_the_validation_part(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv")
    write_csv(tmp_path / f"{name}.csv", ROWS[:1])
    assert read_default(tmp_path) == {"train": ROWS, "validation": ROWS[:1]}
    (tmp_path / f"{name}.csv").unlink()
    write_folders(tmp_path / name, ROWS[1:2])
    assert read_default(tmp_path) == {"train": ROWS, "validation": ROWS[1:2]}


def test_files_that_are_evaluated_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "new.csv")
    write_csv(tmp_path / "folder.csv")
    assert read(tmp_path / "new.csv", Layout(), "test") == {"test": ROWS}
    (tmp_path / "parts").mkdir()
    write_csv(tmp_path / "parts" / "test.csv", ROWS[:1])
    assert read(tmp_path / "parts", Layout(), "test") == {"test": ROWS[:1]}
    with pytest.raises(DatasetError, match="has test but no train or validation part"):
        read(tmp_path / "parts", Layout(), "validation")


def test_bad_class_folders(tmp_path: Path) -> None:
    write_folders(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert message(tmp_path) == f"{empty}: the class has no documents"

    stray = empty / "notes.pdf"
    stray.write_bytes(b"")
    assert message(tmp_path).startswith(f"{stray}: a class folder may hold .txt files only")

    stray.rename(empty / "0.txt")
    assert Row("", "empty") in read_default(tmp_path)["train"]
    (empty / "0.txt").write_bytes(b"one\ntwo\xff")
    assert message(tmp_path).startswith(f"{empty / '0.txt'}, line 2: not UTF-8")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1.0", "0.0", "1"], ["1", "0", "1"]),  # as pandas writes a column with gaps
        (["1.0", "-2.00", "+3."], ["1", "-2", "3"]),
        (["1.0", "0.5"], ["1.0", "0.5"]),
        (["1.0", "x"], ["1.0", "x"]),
        (["01", "1"], ["01", "1"]),
    ],
)
def test_whole_numbers(
    labels: list[str], expected: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_csv(tmp_path / "train.csv", [Row(f"t{n}", label) for n, label in enumerate(labels)])
    assert [row.label for row in read_default(tmp_path)["train"]] == expected
    assert ("all labels are whole numbers" in caplog.text) is (labels != expected)


def test_whole_numbers_of_all_parts(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('[{"text": "x", "label": 1.0}]', encoding="utf-8")
    write_csv(tmp_path / "test.csv", [Row("y", "1.0")])
    write_table(tmp_path / "validation.parquet", {"text": ["z"], "label": [1.0]})
    assert {row.label for rows in read_default(tmp_path).values() for row in rows} == {"1"}
    write_csv(tmp_path / "test.csv", [Row("y", "1.5")])
    found = read_default(tmp_path)
    assert [found[part][0].label for part in ("train", "test")] == ["1", "1.5"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_rows_without_a_label(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        write_table(path, {"text": ["x", "y", "z"], "label": [1.0, None, float("nan")]})
    elif name == "a.csv":
        path.write_text("text,label\nx,1\ny,\nz, \n", encoding="utf-8")
    else:
        path.write_text(
            '{"text": "x", "label": 1}\n{"text": "y", "label": null}\n{"text": null, "label": NaN}',
            encoding="utf-8",
        )
    assert "'label' is missing or empty" in message(path)
    assert "--data.drop_unlabelled true" in message(path)
    assert read(path, Layout(drop_unlabelled=True)) == {"train": [Row("x", "1")]}
    assert f"2 rows without a label were dropped, the first: {path}, " in caplog.text
