"""The forms that a .json file may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqnorm.datasets import DatasetError, load_corpus
from seqnorm.datasets.documents import Row
from seqnorm.datasets.own_files import read
from seqnorm.datasets.record_files import Layout
from seqnorm.datasets.rows import read_rows


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "x", "label": "a"},\n {"label": "b", "text": "y", "more": null}]',
        '{"text": ["x", "y"], "label": ["a", "b"]}',
        '{"text": {"0": "x", "7": "y"}, "label": {"7": "b", "0": "a"}}',
        '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n',
    ],
)
def test_each_form(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert read(path, Layout()) == {"train": [Row("x", "a"), Row("y", "b")]}


def test_one_record(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"text": "x",\n "label": 3}', encoding="utf-8")
    assert read(tmp_path, Layout()) == {"train": [Row("x", "3")]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": ["x", "y"], "label": ["a"]}', ": the columns 'text' and 'label' do not have"),
        ('{"text": {"0": "x"}, "label": {"1": "a"}}', ": the columns 'text' and 'label' do not"),
        ('{"text": 1, "label": 2}', ": 'text' is 1; a .json file is a list of objects"),
        ('{"data": []}', ": no column 'text'; there are 'data'; name the right ones"),
        ("3", ": a .json file is a list of objects"),
        ("[3]", ", record 1: not a JSON object"),
        ('[{"text": "x"}]', ", record 1: no column 'label'"),
        ('[{"text": "x", "label": "a"}, {"text": "x", "label": ""}]', ", record 2: 'label' is"),
        ('[\n{"text": "x" "label": "a"}]', ", line 2: not JSON"),
        ('{"text": "x", "label": "a"}\n{"text": "y"\n', ", line 2: not JSON"),
        (
            '[{"text": "x", "label": "a", "text": "y"}]',
            ": the key 'text' occurs twice in one object",
        ),
        ("[" * 100_000, ": not JSON"),
        ("[]", ": no documents"),
        ("", ": the file is empty"),
    ],
)
def test_what_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read(path, Layout())
    assert str(caught.value).startswith(f"{path}{expected}")


def test_a_key_twice_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": "a", "label": "b"}\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="line 1: the key 'label' occurs twice"):
        read(path, Layout())


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "reviews", "text": ["x", "y"], "label": ["a", "b"], "version": 2}',
        '{"classes": ["a", "b", "c"], "text": ["x", "y"], "label": ["a", "b"]}',
        '{"about": {"year": 2020}, "text": {"1": "x", "2": "y"}, "label": {"2": "b", "1": "a"}}',
    ],
)
def test_columns_beside_other_values(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert read(path, Layout()) == {"train": [Row("x", "a"), Row("y", "b")]}
    (told,) = caplog.messages
    assert told.startswith(f"{path}: '")
    assert "left out, because only values with an entry for each row are columns" in told
    found = read_rows(path, columns=["text"])
    assert found.columns == ("text", "label")
    assert list(found.records) == [
        (f"{path}, record 1", ["x", "a"]),
        (f"{path}, record 2", ["y", "b"]),
    ]
    assert caplog.messages == [told, told]


def test_columns_in_another_order_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"label": {"7": "b", "0": "a"}, "text": {"0": "x", "7": "y"}}')
    expected = [(f"{path}, record 0", ["a", "x"]), (f"{path}, record 7", ["b", "y"])]
    assert list(read_rows(path, columns=["text"]).records) == expected


def test_unknown_columns_beside_other_values(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"version": 2, "Satz": ["x y", "z w"], "Klasse": ["a", "b"]}')
    assert read_rows(path).columns == ("Satz", "Klasse")
    path.write_text('{"Satz": ["x y", "z w"], "Klasse": ["a"]}')
    with pytest.raises(DatasetError, match=r"'Satz' and 'Klasse' do .*; they have 2 and 1"):
        read_rows(path)


def test_a_list_in_one_record(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"tags": ["p", "q"], "text": "x", "label": "a"}', encoding="utf-8")
    assert read(path, Layout()) == {"train": [Row("x", "a")]}
    found = read_rows(path, columns=["text"])
    assert list(found.records) == [(f"{path}, record 1", [["p", "q"], "x", "a"])]


def test_a_key_twice_in_the_first_of_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"text": "x", "label": "a", "text": "y"}\n{"text": "x", "label": "a"}\n')
    for reading in (lambda: read(path, Layout()), lambda: read_rows(path)):
        with pytest.raises(DatasetError, match=r"a\.json, line 1: the key 'text' occurs twice"):
            reading()


def test_an_empty_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"a\.json: no documents"):
        load_corpus(path, text_column=None, label_column=None, test_fraction=0.5)
