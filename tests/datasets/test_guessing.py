"""Guesses about columns and separators, from files as people have them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqnorm.datasets import DatasetError, load_corpus
from seqnorm.datasets.guessing import text_column_of, with_columns
from seqnorm.datasets.layout import Layout
from seqnorm.datasets.rows import read_rows
from seqnorm.datasets.telling import told_once

WORDS = ["the", "film", "was", "long", "and", "its", "end", "came", "late"]
Columns = dict[str, list[Any]]


def text(number: int) -> str:
    return f"{' '.join(WORDS[: 3 + number % 6])} {number}"


def columns(**more: Any) -> Columns:
    """Return 40 rows, by column, with a text and with values that functions give by the number."""
    return {name: [make(n) for n in range(40)] for name, make in more.items()}


def table(found: Columns, delimiter: str = ",") -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(found)
    writer.writerows(zip(*found.values()))
    return out.getvalue()


def guessed(path: Path, **given: Any) -> tuple[str | None, str | None]:
    layout = with_columns(path, Layout(**{"text_column": None, "label_column": None, **given}))
    return layout.columns


def refused(path: Path, **given: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        guessed(path, **given)
    return str(caught.value)


STARS = {"Text": text, "Bewertung": lambda n: n % 5 + 1}
MANY = {
    "id": lambda n: n,
    "date": lambda n: f"2024-01-{n % 28 + 1:02d} 12:00",
    "link": lambda n: f"https://example.org/{n}",
    "price": lambda n: f"{n}.50",
    "author": lambda n: f"Ada {chr(97 + n % 26)}{n}",
    "review": text,
    "verified": lambda n: ["yes", "no"][n % 2],
    "sentiment": lambda n: ["bad", "good", "fair"][n % 3],
}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"review": text, "sentiment": lambda n: "ab"[n % 2]}, ("review", "sentiment")),
        ({"a": lambda n: "xy"[n % 2], "b": text}, ("b", "a")),
        ({"a": text, "b": lambda n: f"{n % 2}.0"}, ("a", "b")),
        ({"a": text, "b": lambda n: "" if n % 3 else "x y"[n % 2 :]}, ("a", "b")),
        # Single words, of which one column varies.
        ({"name": lambda n: f"n{n}", "sex": lambda n: "fm"[n % 2]}, ("name", "sex")),
        ({"TEXT": text, "other": text, "Label": lambda n: n % 2}, ("TEXT", "Label")),
        ({"x": lambda n: f"很好的电影{n}", "y": lambda n: n % 2}, ("x", "y")),
        (STARS, ("Text", "Bewertung")),
        (MANY, ("review", "sentiment")),
        ({"text": text, "label": lambda n: n}, ("text", "label")),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_columns_by_their_values(
    found: Columns, expected: tuple[str, str], ending: str, tmp_path: Path
) -> None:
    rows = columns(**found)
    path = tmp_path / f"a{ending}"
    objects = [dict(zip(rows, values)) for values in zip(*rows.values())]
    if ending == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table(rows), path)
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    elif ending == ".json":
        path.write_text(json.dumps(objects), encoding="utf-8")
    else:
        path.write_text(table(rows, "\t" if ending == ".tsv" else ","), encoding="utf-8")
    assert guessed(path) == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_separators_by_the_lines(delimiter: str, name: str, tmp_path: Path) -> None:
    rows = columns(Text=lambda n: f"{text(n)}, or; so", Bewertung=lambda n: n % 2)
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + table(rows, delimiter).encode())
    assert guessed(path) == ("Text", "Bewertung")
    corpus = load_corpus(path)
    assert corpus.classes == ("0", "1")
    assert corpus.columns == ("Text", "Bewertung")
    assert set(corpus.train.texts) == set(rows["Text"])


def test_a_guess_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(columns(review=text, sentiment=lambda n: "ab"[n % 2])))
    load_corpus(path)
    assert caplog.messages == [
        f"{path}: text column 'review', label column 'sentiment'; set with --data.text_column and "
        "--data.label_column"
    ]
    caplog.clear()
    load_corpus(path, text_column="review", label_column="sentiment")
    assert not caplog.messages


def test_several_runs_tell_a_guess_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other readers are told once too, and another file has guesses of its own."""
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in paths:
        path.write_text(table(columns(review=text, sentiment=lambda n: "ab"[n % 2]), ";"))
    with told_once():
        for path in (*paths, *paths):
            load_corpus(path)
    told = Counter(Path(message.partition(":")[0]).name for message in caplog.messages)
    assert told == {"a.csv": 2, "b.csv": 2}  # the separator, and the columns
    caplog.clear()
    load_corpus(paths[0])
    assert len(caplog.messages) == 2


def test_options_win(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(columns(**MANY)))
    assert guessed(path, label_column="verified") == ("review", "verified")
    assert guessed(path, text_column="author", label_column="verified") == ("author", "verified")
    for role in ("text", "label"):
        message = refused(path, **{f"{role}_column": "stars"})
        assert f"{path}: no column 'stars'; there are 'id', 'date', " in message


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {"one": text, "two": text, "c": lambda n: n % 2},
            "the text column may be 'one' or 'two'; name it with text_column (--data.text_column)",
        ),
        (
            {"a": text, "b": lambda n: n % 2, "c": lambda n: n % 3},
            "the label column may be 'b' or 'c'; name it with label_column (--data.label_column)",
        ),
        (
            {"a": text, "b": lambda n: n, "c": lambda n: n / 3},
            "no column looks like the labels; there are 'a', 'b', 'c'; name it with label_column",
        ),
        (
            {"a": lambda n: n, "b": lambda n: n % 2, "c": lambda n: n % 2},
            "no column looks like the texts; there are 'a', 'b', 'c'; name it with text_column",
        ),
        ({"a": text}, "no column looks like the labels; there are 'a'; name it with"),
        (
            {"it was good": text, "x": lambda n: "xy"[n % 2]},
            "the first line seems to be a row and no header, because 'x' is also a label",
        ),
    ],
)
def test_what_is_not_guessed(found: Columns, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(columns(**found)))
    assert refused(path).startswith(f"{path}: {message}")


def test_the_same_columns_for_all_parts(tmp_path: Path) -> None:
    rows = columns(review=text, sentiment=lambda n: "ab"[n % 2])
    (tmp_path / "train.csv").write_text(table(rows))
    rows["review"] = [f"{found} too" for found in rows["review"]]
    (tmp_path / "test.tsv").write_text(table(rows, "\t"))
    corpus = load_corpus(tmp_path)
    assert [len(part.texts) for part in (corpus.train, corpus.test)] == [40, 40]


def test_a_column_of_texts_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(table(columns(**MANY)))
    assert text_column_of(path) == "review"
    path.write_text("words\nx\ny\n")
    assert text_column_of(path) == "words"
    path.write_text("Text;n\nx;1\ny;2\n")
    assert text_column_of(path) == "Text"


def test_what_is_evaluated_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,b\nx,b\n,b\n")
    corpus = load_corpus(path, alone="test")
    assert corpus.classes == ("b",)
    assert (corpus.test.texts, corpus.train.texts) == (("x", "x", ""), ())
    assert corpus.validation is None


# Rows that are sorted by class, and rows whose classes alternate.
ORDERS: dict[str, Callable[[int], str]] = {
    "sorted": lambda n: "neg" if n < 3000 else "pos",
    "other": lambda n: ["neg", "pos"][n % 2],
}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_file_of_many_rows(order: str, ending: str, tmp_path: Path) -> None:
    number = range(6000)
    found: Columns = {
        "words": [text(n) for n in number],
        "sentiment": [ORDERS[order](n) for n in number],
        "lang": [["de", "en"][n // 2 % 2] for n in number],
    }
    path = tmp_path / f"a{ending}"
    rows = [dict(zip(found, values)) for values in zip(*found.values())]
    if ending == ".csv":
        path.write_text(table(found))
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table(found), path, row_group_size=700)
    assert guessed(path) == ("words", "sentiment")
    if order == "sorted":  # without a usual name, either may be meant
        renamed = path.with_name(f"b{ending}")
        if ending == ".parquet":
            parquet.write_table(pyarrow.table({"mood": found.pop("sentiment"), **found}), renamed)
        else:
            renamed.write_text(path.read_text().replace("sentiment", "mood"))
        assert "'lang'" in refused(renamed)
        assert "'mood'" in refused(renamed)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_sample_of_rows(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".csv":
        path.write_text("a\n" + "".join(f"{n}\n" for n in range(1, 5001)))
    elif ending == ".jsonl":
        path.write_text("".join(f'{{"a": {n}}}\n' for n in range(1, 5001)))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"a": range(1, 5001)}), path, row_group_size=300)
    found = list(read_rows(path, sample=1000).records)
    numbers = [int(a) for _, (a,) in found]
    assert len(set(numbers)) == 1000
    assert numbers == sorted(numbers)
    assert 400 < sum(number > 2500 for number in numbers) < 600
    before = 1 if ending == ".csv" else 0
    assert [int(where.split()[-1]) - before for where, _ in found] == numbers
    assert list(read_rows(path, sample=1000).records) == found
    assert len(list(read_rows(path, sample=6000).records)) == 5000
