"""Tables, folders and lines that a classifier labels, and the formats of the answer."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from zipped import zipped

from seqnorm.datasets import DatasetError, Tokenizer
from seqnorm.datasets.record_files import record_line
from seqnorm.training import TextClassification
from seqnorm.training.checkpoints.checkpoint_file import (
    AtomicCheckpointIO,
    Checkpoint,
    read_checkpoint,
)
from seqnorm.training.prediction import text_lines
from seqnorm.training.prediction.classification import label, predict

TOKENIZER = Tokenizer.train(["corn wheat", "goal team"]).to_json()
ROWS = [
    {"id": 1, "review": 'corn; "wheat", crop', "more": "x"},
    {"id": 2, "review": "goal\nteam", "more": "\u00e9 \U0001f600"},
    {"id": 3, "review": "", "more": "y"},
]
CLASSES = ("grain", "sport")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Save an untrained classifier, as a run on a column "review" does, and enter its folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = TextClassification(TOKENIZER, CLASSES, embedding_size=4, hidden_size=4)
    data = {"corpus": "train.csv", "text_column": "review", "max_length": 50}
    stored = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    AtomicCheckpointIO().save_checkpoint({**stored, "datamodule_hyper_parameters": data}, "a.ckpt")
    return read_checkpoint("a.ckpt")


def chances(checkpoint: Checkpoint, texts: list[str]) -> list[list[float]]:
    model = TextClassification(**checkpoint.hyper_parameters).eval()
    model.load_state_dict(checkpoint.weights)
    return list(label(model, texts, 50, 2))


def write(name: str, rows: list[dict[str, Any]] = ROWS, **options: Any) -> None:
    path = Path(name)
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    else:
        options.setdefault("delimiter", "\t" if path.suffix == ".tsv" else ",")
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), **options)
            writer.writeheader()
            writer.writerows(rows)


def read(name: str) -> list[dict[str, Any]]:
    path = Path(name)
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = (
            pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
        )
        return found
    text = path.read_bytes().decode("utf-8")
    if path.suffix == ".json":
        return list(json.loads(text))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    delimiter = "\t" if path.suffix == ".tsv" else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


ENDINGS = ("csv", "tsv", "jsonl", "json", "parquet")


@pytest.mark.parametrize("written", ENDINGS)
@pytest.mark.parametrize("given", ENDINGS)
def test_no_format_loses_anything(given: str, written: str, checkpoint: Checkpoint) -> None:
    write(f"new.{given}")
    predict(checkpoint, f"new.{given}", f"out.{written}", batch_size=2)
    expected = chances(checkpoint, [row["review"] for row in ROWS])
    for row, found, values in zipped(ROWS, read(f"out.{written}"), expected):
        assert list(found)[:4] == ["id", "review", "more", "label"]
        assert found["review"] == row["review"]
        assert found["more"] == row["more"]
        assert str(found["id"]) == str(row["id"])
        whole = given in ("jsonl", "json", "parquet") and written in ("jsonl", "json", "parquet")
        assert isinstance(found["id"], int) == whole
        assert found["label"] == CLASSES[values.index(max(values))]
        nested = written in ("jsonl", "json")
        numbers = found["probabilities"] if nested else {name: found[name] for name in CLASSES}
        assert [float(numbers[name]) for name in CLASSES] == pytest.approx(values, abs=1e-6)


def test_names_that_are_taken(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> None:
    write("new.csv", [{"review": "corn", "label": "x", "sport": "y", "predicted_label": "z"}])
    predict(checkpoint, "new.csv", "out.csv")
    (row,) = read("out.csv")
    assert list(row) == [
        *("review", "label", "sport", "predicted_label"),
        *("predicted_label_2", "grain", "predicted_sport_2"),
    ]
    assert [row["label"], row["sport"], row["predicted_label"]] == ["x", "y", "z"]
    assert row["predicted_label_2"] in CLASSES
    assert caplog.messages == [
        "the input has a column 'label', so the predicted one is 'predicted_label_2'",
        "the input has a column 'sport', so the predicted one is 'predicted_sport_2'",
    ]
    predict(checkpoint, "new.csv", "out.jsonl")
    (row,) = read("out.jsonl")
    assert list(row)[-2:] == ["predicted_label_2", "probabilities"]


def test_names_of_an_earlier_prediction(checkpoint: Checkpoint) -> None:
    write("new.csv", [{"review": "corn", "label": "x"}])
    for number in range(1, 5):
        predict(checkpoint, "new.csv" if number == 1 else "out.csv", "out.csv")
    assert list(read("out.csv")[0]) == [
        *("review", "label", "predicted_label", "grain", "sport"),
        *("predicted_label_2", "predicted_grain_2", "predicted_sport_2"),
        *("predicted_label_3", "predicted_grain_3", "predicted_sport_3"),
        *("predicted_label_4", "predicted_grain_4", "predicted_sport_4"),
    ]


@pytest.mark.parametrize("given", [{}, {"label": "x"}, {"predicted_label": "x"}])
def test_a_class_called_label(
    given: dict[str, str], checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    parameters = {**checkpoint.hyper_parameters, "classes": ("label", "sport")}
    other = Checkpoint("a.ckpt", {**checkpoint.contents, "hyper_parameters": parameters})
    write("new.csv", [{"review": "corn", **given}])
    predict(other, "new.csv", "out.csv")
    (row,) = read("out.csv")
    assert list(row)[:-3] == ["review", *given]
    first, second, third = list(row)[-3:]
    assert row[first] in ("label", "sport")
    assert float(row[second]) + float(row[third]) == pytest.approx(1, abs=1e-5)
    expected = [f"two of the new columns are 'label', so the second one is {second!r}"]
    if "label" in given:
        expected.insert(0, f"the input has a column 'label', so the predicted one is {first!r}")
    assert caplog.messages == expected
    assert first == ("predicted_label" if "label" in given else "label")


def test_the_same_name_twice(checkpoint: Checkpoint) -> None:
    Path("new.csv").write_text("a,review,a\n1,corn,2\n")
    predict(checkpoint, "new.csv", "out.csv")
    assert Path("out.csv").read_text().startswith("a,review,a,label,grain,sport\n1,corn,2,")
    with pytest.raises(ValueError, match="more than one column 'a', which only"):
        predict(checkpoint, "new.csv", "out.json")
    assert not Path("out.json").exists()


def test_types_of_a_table(checkpoint: Checkpoint) -> None:
    when = datetime.datetime(2024, 5, 1, 12)
    rows = [{"review": "corn", "when": when, "n": [1, 2], "x": None, "y": 0.5, "z": True}]
    write("new.parquet", rows)
    predict(checkpoint, "new.parquet", "out.parquet")
    (found,) = read("out.parquet")
    assert {name: found[name] for name in rows[0]} == rows[0]
    predict(checkpoint, "new.parquet", "out.csv")
    (found,) = read("out.csv")
    expected = {"when": str(when), "n": "[1, 2]", "x": "", "y": "0.5", "z": "true"}
    assert {name: found[name] for name in expected} == expected
    predict(checkpoint, "new.parquet", "out.json")
    assert read("out.json")[0]["when"] == str(when)


def test_objects_of_other_keys(checkpoint: Checkpoint) -> None:
    rows = [{"review": "corn", "a": {"b": [1]}}, {"c": 2, "review": None}, {"a": "x"}]
    write("new.jsonl", rows)
    predict(checkpoint, "new.jsonl", "out.jsonl")
    for row, found in zipped(rows, read("out.jsonl")):
        assert {k: v for k, v in found.items() if k not in ("label", "probabilities")} == row
    predict(checkpoint, "new.jsonl", "out.csv")
    assert [row["a"] for row in read("out.csv")] == ['{"b": [1]}', "", "x"]
    predict(checkpoint, "new.jsonl", "out.parquet")
    assert [row["a"] for row in read("out.parquet")] == ['{"b": [1]}', None, "x"]


def test_columns_of_the_training_and_others(checkpoint: Checkpoint) -> None:
    write("new.csv", delimiter=";")
    predict(checkpoint, "new.csv", "out.csv")
    assert read("out.csv")[0]["review"] == ROWS[0]["review"]
    write("other.csv", [{"id": 1, "words": "corn"}])
    with pytest.raises(ValueError, match=r"no column 'review', which the model.*'id', 'words'; na"):
        predict(checkpoint, "other.csv")
    predict(checkpoint, "other.csv", "out.csv", text_column="words")
    with pytest.raises(DatasetError, match="no column 'none'; there are 'id', 'words'"):
        predict(checkpoint, "other.csv", text_column="none")
    with pytest.raises(
        ValueError, match=r"text_column cannot be given for lines\.txt, which is lin"
    ):
        predict(checkpoint, "lines.txt", text_column="none")
    # A model that was trained on a corpus without columns.
    contents = {**checkpoint.contents, "datamodule_hyper_parameters": {"corpus": "r8"}}
    predict(Checkpoint("a.ckpt", contents), "other.csv", "out.csv")
    assert read("out.csv")[0]["words"] == "corn"


def test_texts_that_are_no_texts(checkpoint: Checkpoint) -> None:
    write("new.jsonl", [{"review": "x"}, {"review": 5}])
    with pytest.raises(DatasetError, match=r"new\.jsonl, line 2: the text must be a string, not 5"):
        predict(checkpoint, "new.jsonl", "out.csv")
    assert not Path("out.csv").exists()
    Path("new.csv").write_text("review,a\nx\n")
    with pytest.raises(DatasetError, match=r"new\.csv, line 2: 1 fields where the header has 2"):
        predict(checkpoint, "new.csv")
    Path("new.csv").write_bytes(b"review,a\nx,y\n\xe9,b\n")
    with pytest.raises(DatasetError, match=r"new\.csv, line 3: not UTF-8"):
        predict(checkpoint, "new.csv")


def test_swallowed_rows_are_told(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> None:
    Path("new.csv").write_text('review,a\n"x,1\ny,2\nz",3\n')
    predict(checkpoint, "new.csv", "out.csv")
    assert "new.csv, line 2: a field in quotation marks continues to line 4" in caplog.text
    caplog.clear()
    predict(checkpoint, "new.csv", "out.csv", quotes="literal")
    assert [line.split(",")[0] for line in Path("out.csv").read_text().splitlines()] == [
        *("review", '"x', "y", 'z"')
    ]
    assert not caplog.text


def test_lines(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("lines.txt").write_text("corn, wheat\ngoal\n")
    predict(checkpoint, "lines.txt")
    assert capsys.readouterr().out.splitlines()[0] == "label\tgrain\tsport"
    predict(checkpoint, "lines.txt", "out.csv")
    assert [row["text"] for row in read("out.csv")] == ["corn, wheat", "goal"]
    monkeypatch.setattr("sys.stdin", io.StringIO("corn\n"))
    predict(checkpoint, format="json")
    assert list(json.loads(capsys.readouterr().out)[0]) == ["text", "label", "probabilities"]
    with pytest.raises(ValueError, match="Parquet cannot be printed"):
        predict(checkpoint, "lines.txt", format="parquet")
    Path("lines.txt").write_text("")
    predict(checkpoint, "lines.txt", "out.json")
    assert read("out.json") == []


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.txt", "out"])
@pytest.mark.parametrize("format", [None, "csv", "tsv", "jsonl", "json"])
def test_where_lines_are_repeated(format: Any, name: str, checkpoint: Checkpoint) -> None:
    Path("lines.txt").write_text("corn\n")
    predict(checkpoint, "lines.txt", name, format)
    table = Path(name).suffix in (".csv", ".tsv", ".jsonl") and format is None
    assert ("corn" in Path(name).read_text()) == (table or format in ("csv", "json"))


def test_a_folder(checkpoint: Checkpoint) -> None:
    for name in ("b/1.txt", "a/2.txt", ".hidden/3.txt"):
        Path("texts", name).parent.mkdir(parents=True, exist_ok=True)
        Path("texts", name).write_text("corn\n")
    predict(checkpoint, "texts", "out.csv")
    assert [row["file"] for row in read("out.csv")] == ["a/2.txt", "b/1.txt"]
    Path("tables").mkdir()
    write("tables/test.csv")
    with pytest.raises(ValueError, match=r"tables holds no \.txt files; give one of .*: test\.csv"):
        predict(checkpoint, "tables")


def test_rows_are_labelled_as_they_are_read(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def lines() -> Iterator[str]:
        for number in range(3):
            seen.append(capsys.readouterr().out.count("\n"))
            yield f"corn {number}"

    monkeypatch.setattr(text_lines, "standard_input", lines)
    monkeypatch.setattr("seqnorm.training.prediction.sources.standard_input", lines)
    predict(checkpoint, batch_size=1)
    assert seen == [1, 1, 1]  # the header, and then each row before the next one is read


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_line_end_within_a_field(ending: str, checkpoint: Checkpoint) -> None:
    texts = ["corn\rgoal", "corn\r\ngoal", "corn\ngoal", "\r"]
    write("new.jsonl", [{"review": text} for text in texts])
    predict(checkpoint, "new.jsonl", f"out.{ending}")
    assert [row["review"] for row in read(f"out.{ending}")] == texts
    assert Path(f"out.{ending}").read_bytes().startswith(b"review")
    predict(checkpoint, f"out.{ending}", "again.csv")
    assert [row["review"] for row in read("again.csv")] == texts
    assert b"\r\n" not in Path("again.csv").read_bytes().replace(b"corn\r\n", b"")


@pytest.mark.parametrize("name", ["out.xlsx", "out.XLS", "out.ods"])
@pytest.mark.parametrize("format", [None, "csv"])
def test_no_spreadsheet_is_written(name: str, format: Any, checkpoint: Checkpoint) -> None:
    write("new.csv")
    expected = r"is not written; name .* one of \.tsv, \.csv, \.jsonl, \.json, \.parquet; spread"
    with pytest.raises(ValueError, match=expected):
        predict(checkpoint, "new.csv", name, format)
    assert not Path(name).exists()


@pytest.mark.parametrize(("ending", "delimiter"), [("tsv", "\t"), ("csv", ";")])
def test_literal_quotes_stay_literal(ending: str, delimiter: str, checkpoint: Checkpoint) -> None:
    texts = ['"good" film', 'a "good, good" film', '"open']
    rows = [["id", "review"], *([str(n), text] for n, text in enumerate(texts))]
    Path(f"new.{ending}").write_text("".join(delimiter.join(row) + "\n" for row in rows))
    predict(checkpoint, f"new.{ending}", f"out.{ending}", quotes="literal")
    lines = Path(f"out.{ending}").read_text().splitlines()
    assert [line.split(delimiter)[:2] for line in lines] == rows
    predict(checkpoint, f"out.{ending}", "out.jsonl", quotes="literal")
    assert [row["review"] for row in read("out.jsonl")] == texts
    # In the other format the fields are enclosed, because they may hold its separator.
    other = "csv" if ending == "tsv" else "tsv"
    predict(checkpoint, f"new.{ending}", f"out.{other}", quotes="literal")
    assert [row["review"] for row in read(f"out.{other}")] == texts


def test_literal_quotes_that_cannot_be_kept(checkpoint: Checkpoint) -> None:
    parameters = {**checkpoint.hyper_parameters, "classes": ("a;b", "c")}
    other = Checkpoint("a.ckpt", {**checkpoint.contents, "hyper_parameters": parameters})
    Path("new.csv").write_text('review;id\n"corn;1\n')
    with pytest.raises(ValueError, match="the field 'a;b' holds a line end or the separator ';'"):
        predict(other, "new.csv", "out.csv", quotes="literal")
    assert not Path("out.csv").exists()
    predict(other, "new.csv", "out.tsv", quotes="literal")
    assert "a;b" in read("out.tsv")[0]


@pytest.mark.parametrize("field", ["a\tb", "a\rb", "\n"])
def test_a_line_of_literal_quotes(field: str) -> None:
    assert record_line(['"a"', "b,"], "\t", "literal") == '"a"\tb,\n'
    with pytest.raises(ValueError, match=r"holds a line end or the separator '.t'.*write \.jsonl"):
        record_line(['"a"', field], "\t", "literal")
    line = io.StringIO(record_line(['"a"', field], "\t"), newline="")
    assert list(csv.reader(line, delimiter="\t")) == [['"a"', field]]
