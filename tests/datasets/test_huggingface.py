"""Data sets of Hugging Face's library, from folders on the disk."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from seqnorm.datasets import DatasetError, load_corpus, load_texts

HERE = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # from its imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
pytestmark = HERE
ROWS = {"text": ["corn rose", "a late goal", "wheat fell"], "label": [0, 1, 0]}


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    found.disable_progress_bars()
    return found


def test_a_folder_of_csv(datasets: Any, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    (folder / "train.csv").write_text("review,topic\ncorn rose,grain\na late goal,sport\n")
    (folder / "test.csv").write_text("review,topic\nwheat fell,grain\n")
    columns = {"text_column": "review", "label_column": "topic"}
    corpus = load_corpus(f"hf:{folder}", root=tmp_path, language="en", **columns)
    assert corpus.classes == ("grain", "sport")
    assert corpus.train.texts == ("corn rose", "a late goal")
    assert corpus.test == (("wheat fell",), (0,))
    assert (corpus.language, corpus.validation) == ("en", None)
    with pytest.raises(
        DatasetError, match="no column 'text'; there are review, topic; set text_column"
    ):
        load_corpus(f"hf:{folder}", root=tmp_path)


def test_what_save_to_disk_wrote(datasets: Any, tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["grain", "sport"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    table = datasets.Dataset.from_dict(ROWS, features=features)
    table.save_to_disk(str(tmp_path / "one"))
    held_out = datasets.Dataset.from_dict({"text": ["a draw"], "label": [1]}, features=features)
    parts = {"train": table, "validation": held_out, "unsupervised": table}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    one = load_corpus(f"hf:{tmp_path / 'one'}", root=tmp_path, test_fraction=0.4)
    assert one.classes == ("grain", "sport")
    assert len(one.train.texts) + len(one.test.texts) == 3
    several = load_corpus(f"hf:{tmp_path / 'parts'}", root=tmp_path)
    assert (several.validation, several.test.texts) == ((("a draw",), (1,)), ())


def test_texts_without_labels(datasets: Any, tmp_path: Path) -> None:
    parts = {
        name: datasets.Dataset.from_dict({"line": [f" = {name} {n} = \n" for n in range(10)]})
        for name in ("train", "test")
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "lines"))
    texts = load_texts(f"hf:{tmp_path / 'lines'}", root=tmp_path, text_column="line")
    assert texts.parts["test"] == tuple(f"= test {n} =" for n in range(10))
    assert texts.parts["train"] == tuple(f"= train {n} =" for n in range(9))
    assert texts.parts["validation"] == ("= train 9 =",)
    with pytest.raises(DatasetError, match="no column 'text'; there are line; set text_column"):
        load_texts(f"hf:{tmp_path / 'lines'}", root=tmp_path)
    datasets.Dataset.from_dict({"text": [None, None]}).save_to_disk(str(tmp_path / "none"))
    with pytest.raises(DatasetError, match="row 0: the text is NoneType"):
        load_texts(f"hf:{tmp_path / 'none'}", root=tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"text": [1.5, 2.5], "label": ["x", "y"]}, "row 0: the text is float, not a string"),
        ({"text": ["a", None], "label": ["x", "y"]}, "row 1: the text is NoneType"),
        ({"text": ["a", "b"], "label": ["x", None]}, "row 1: the label is None"),
        ({"text": ["a", "b"], "label": ["x", ""]}, "row 1: the label is ''"),
        (
            {"text": ["a", "b"], "label": ["x\ty", "z"]},
            r"row 0: the label 'x\\ty' holds",
        ),
        ({"text": ["a", "b"], "label": [0.5, 1.0]}, "row 0: the label is 0.5"),
        ({"words": ["a", "b"], "label": [0, 1]}, "no column 'text'"),
    ],
)
def test_rows_that_are_none(
    rows: dict[str, Any], message: str, datasets: Any, tmp_path: Path
) -> None:
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(DatasetError, match=message):
        load_corpus(f"hf:{tmp_path / 'rows'}", root=tmp_path)


def test_labels_that_were_left_out(datasets: Any, tmp_path: Path) -> None:
    """The library writes a missing label as the class -1."""
    names = datasets.ClassLabel(names=["grain", "sport"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    table = datasets.Dataset.from_dict({**ROWS, "label": [0, -1, 1]}, features=features)
    table.save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(DatasetError, match=r"row 1: the row has no label \(-1\)"):
        load_corpus(f"hf:{tmp_path / 'rows'}", root=tmp_path)


def test_parts_without_any_label(
    datasets: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The test parts of competitions have no labels."""
    names = datasets.ClassLabel(names=["grain", "sport"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    labels = {"train": [0, 1, 0], "validation": [1, 0, 1], "test": [-1, -1, -1]}
    for name, found in ((f"{part}s", {**labels, part: [-1] * 3}) for part in ("test", "train")):
        tables = {
            part: datasets.Dataset.from_dict({**ROWS, "label": some}, features=features)
            for part, some in found.items()
        }
        # Equal texts would be dropped from all parts but one.
        for part, table in tables.items():
            tables[part] = table.map(lambda row, part=part: {"text": f"{row['text']} {part}"})
        datasets.DatasetDict(tables).save_to_disk(str(tmp_path / name))
    corpus = load_corpus(f"hf:{tmp_path / 'tests'}", root=tmp_path)
    assert corpus.test.texts == ()
    assert corpus.validation is not None
    assert len(corpus.validation.texts) == 3
    assert f"hf:{tmp_path / 'tests'}: no row of the part test has a label" in caplog.text
    with pytest.raises(DatasetError, match=r"part train, row 0: the row has no label \(-1\)"):
        load_corpus(f"hf:{tmp_path / 'trains'}", root=tmp_path)


def test_a_name_without_a_network(datasets: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot load 'none/such'.*hf:NAME:CONFIGURATION"):
        load_corpus("hf:none/such", root=tmp_path)


def test_no_training_part(datasets: Any, tmp_path: Path) -> None:
    parts = {"test": datasets.Dataset.from_dict(ROWS)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    with pytest.raises(DatasetError, match="no part named train"):
        load_corpus(f"hf:{tmp_path / 'parts'}", root=tmp_path)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError("no datasets", name=name)
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'seqnorm\[datasets\]'"):
        load_corpus("hf:imdb")
