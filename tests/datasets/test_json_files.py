"""The forms that a .json file may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqnorm.datasets import DatasetError
from seqnorm.datasets.documents import Row
from seqnorm.datasets.own_files import read
from seqnorm.datasets.record_files import Layout


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
