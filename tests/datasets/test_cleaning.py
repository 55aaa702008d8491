from __future__ import annotations

from dataclasses import replace

from seqnorm.datasets.cleaning import clean
from seqnorm.datasets.documents import PartReport, Row


def rows(*pairs: str) -> list[Row]:
    """Return rows from strings such as "text:label"."""
    return [Row(*pair.split(":")) for pair in pairs]


def test_each_reason_drops_from_train_and_is_counted_once() -> None:
    train = rows(
        "kept:a",
        " :a",
        "both:a",
        "both:b",
        " both :a",
        "tested:a",
        "twice:b",
        "twice :b",
        "validated:b",
        ":b",
    )
    validation = rows("validated:b", "tested:b", "validated:b", ":b")
    test = rows("tested:b", "tested:b", "unclear:a", "unclear:b", " :a")
    cleaned, report = clean({"test": test, "train": train, "validation": validation})

    assert cleaned["train"] == rows("kept:a", "twice:b")
    assert cleaned["validation"] == rows("validated:b", "validated:b", ":b")
    assert cleaned["test"] == test
    assert list(cleaned) == list(report.parts) == ["train", "validation", "test"]
    assert report.parts["train"] == PartReport(
        read=10, empty=2, two_labels=3, held_out=2, duplicate=1, kept=2
    )
    assert report.parts["validation"] == PartReport(
        read=4, empty=1, two_labels=0, held_out=1, duplicate=1, kept=3
    )
    assert report.parts["test"] == PartReport(
        read=5, empty=1, two_labels=2, held_out=0, duplicate=1, kept=5
    )
    assert report.dropped == 9


def test_empty_test_texts_do_not_count_as_held_out() -> None:
    _, report = clean({"train": rows(":a", "x:a"), "test": rows(":a")})
    assert report.parts["train"].empty == 1
    assert report.parts["train"].held_out == 0


def test_nothing_is_dropped_from_clean_parts() -> None:
    parts = {"train": rows("one:a", "two:b", "One:a"), "test": rows("three:a")}
    cleaned, report = clean(parts)
    assert cleaned == parts
    assert report.dropped == 0


def test_report_prints_as_a_table() -> None:
    _, report = clean({"train": rows("x:a", "x:a", "y:b"), "test": rows("z:a")})
    assert str(replace(report, split_off=1)).splitlines() == [
        "part   read  empty  two labels  held out  duplicate  kept",
        "train     3      0           0         0          1     2",
        "test      1      0           0         0          0     1",
        "no test part was published: 1 of the kept documents became it",
    ]
