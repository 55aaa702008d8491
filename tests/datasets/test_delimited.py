"""Separators and quotation marks: no record is swallowed or guessed silently."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from seqnorm.datasets import DatasetError, load_corpus
from seqnorm.datasets.documents import Row
from seqnorm.datasets.own_files import read
from seqnorm.datasets.record_files import Layout

SEPARATORS = [",", ";", "\t", "|"]


def rows_of(path: Path, **options: Any) -> list[Row]:
    return read(path, Layout(**options))["train"]


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        rows_of(path, **options)
    return str(caught.value)


def stray(separator: str, label_first: bool = False) -> str:
    """Return 240 rows, of which 12 begin with a quotation mark and 12 end with one."""
    lines = []
    for number in range(240):
        text = f"the words of document {number}"
        text = f'" {text}' if number % 20 == 3 else f'{text} "' if number % 20 == 7 else text
        fields = [text, "ab"[number % 2]]
        lines.append(separator.join(reversed(fields) if label_first else fields))
    header = ["label", "text"] if label_first else ["text", "label"]
    return "\n".join([separator.join(header), *lines]) + "\n"


def written(separator: str, rows: list[tuple[str, str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([("text", "label"), *rows])
    return text.getvalue()


@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_stray_quotes_swallow_nothing(separator: str, label_first: bool, tmp_path: Path) -> None:
    path = tmp_path / ("a.tsv" if separator == "\t" else "a.csv")
    path.write_text(stray(separator, label_first), encoding="utf-8")
    message = refused(path)
    assert message.startswith(f"{path}, line 5: a quotation mark opens a field that continues to")
    assert "line 9" in message
    assert "--data.quotes" in message
    literal = rows_of(path, quotes="literal")
    assert len(literal) == 240
    assert literal[3] == Row('" the words of document 3', "b")
    assert literal[7] == Row('the words of document 7 "', "b")
    assert len(rows_of(path, quotes="enclose")) == 192


@pytest.mark.parametrize(
    "content",
    ['text,label\nx,a\ny,b\n"good,a\nfilm ",b\n', 'label,text\na,x\nb,y\na,"good\nb,film"\n'],
)
def test_two_rows_made_one_are_enough(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    assert refused(path).startswith(
        f"{path}, line 4: a quotation mark opens a field that continues"
    )


@pytest.mark.parametrize("separator", SEPARATORS)
def test_fields_of_several_lines(separator: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tsv" if separator == "\t" else "a.csv")
    texts = [f'good, "really"; number {n}\n\nor not|so,\r\n{n}' for n in range(9)]
    rows = [(text, "ab"[number % 2]) for number, text in enumerate(texts)]
    path.write_bytes(written(separator, rows).encode())
    assert rows_of(path) == [Row(*row) for row in rows]


def test_a_field_of_a_tsv_with_tabs_and_lines(tmp_path: Path) -> None:
    """A stray quotation mark also makes such a field, perhaps from rows with new labels."""
    path = tmp_path / "a.tsv"
    rows = [("x", "a"), ("one\ttwo\nthree\tfour", "b")]
    path.write_bytes(written("\t", rows).encode())
    assert refused(path).startswith(f"{path}, line 3: a quotation mark opens")
    assert rows_of(path, quotes="enclose") == [Row(*row) for row in rows]
    path.write_bytes(written("\t", [("x", "a"), ("one\rtwo\tthree", "b")]).encode())
    assert refused(path).startswith(f"{path}, line 3: a quotation mark opens")


def test_broken_quotes_can_be_literal(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"x" y\ta\nz"\tb\n"never closed\tb\n', encoding="utf-8")
    assert "--data.quotes" in refused(path)
    literal = rows_of(path, quotes="literal")
    assert [row.text for row in literal] == ['"x" y', 'z"', '"never closed']


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_the_separator_is_found_by_the_header(
    separator: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    path.write_text(written(separator, [("x", "a"), ("y, z; w|v", "b")]), encoding="utf-8")
    assert rows_of(path) == [Row("x", "a"), Row("y, z; w|v", "b")]
    usual = separator == {"a.csv": ",", "a.tsv": "\t"}[name]
    assert (
        f"{path}: its header shows fields separated by {separator!r}" in caplog.text
    ) is not usual


def test_the_separator_is_not_guessed_where_it_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text;label\n1,x;a\n", encoding="utf-8")  # neither has both columns
    assert "there are 'id', 'text;label'; name the right ones" in refused(path)
    path.write_text("text;stars\nx;a\n", encoding="utf-8")
    message = refused(path)
    assert "there are 'text;stars', or, separated by ';', 'text', 'stars'; name the" in message
    assert message.endswith("and the separator with delimiter")
    assert read(path, Layout(label_column="stars"))["train"] == [Row("x", "a")]
    path.write_text("text,label\nx;y,a\n", encoding="utf-8")
    assert rows_of(path) == [Row("x;y", "a")]


@pytest.mark.parametrize(
    ("delimiter", "character"),
    [("comma", ","), ("semicolon", ";"), ("tab", "\t"), ("\\t", "\t"), ("pipe", "|"), ("^", "^")],
)
def test_the_separator_can_be_given(delimiter: str, character: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(written(character, [("x", "a"), ("y", "b")]), encoding="utf-8")
    assert rows_of(path, delimiter=delimiter) == [Row("x", "a"), Row("y", "b")]
    # A given delimiter is not replaced by one that fits the header.
    assert "no column 'text'" in refused(path, delimiter="&")


def test_the_line_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\ntext;label\r\nx;a\r\ny;\r\n")
    assert refused(path).startswith(f"{path}, line 4: 'label' is missing")
    path.write_bytes(b"sep=;\r\ntext;label\r\nx;a\r\n")
    assert rows_of(path) == [Row("x", "a")]


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n"])
def test_what_separates_nothing(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,a\n", encoding="utf-8")
    assert "give comma, semicolon, tab, pipe" in refused(tmp_path / "a.csv", delimiter=delimiter)


def test_options_that_would_do_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "a"}\n', encoding="utf-8")
    for options in ({"delimiter": ";"}, {"quotes": "literal"}):
        assert "are for .csv and .tsv files" in refused(tmp_path / "a.jsonl", **options)
    for options in ({"delimiter": ";"}, {"quotes": "literal"}, {"drop_unlabelled": True}):
        (name,) = options
        with pytest.raises(ValueError, match=f"{name} cannot be given for the corpus 'r8'"):
            load_corpus("r8", **options)  # type: ignore[arg-type]  # of many types
