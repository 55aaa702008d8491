"""The sizes of classes and the lengths of documents, in words."""

from __future__ import annotations

from seqnorm.training.data.overview import are_unequal, class_table, length_line


def test_few_classes() -> None:
    found = class_table(("a", "long name"), {"train": [0] * 1000 + [1] * 20, "test": [1]})
    assert found.splitlines() == [
        "class      train  test",
        "a          1,000     0",
        "long name     20     1",
    ]


def test_many_classes() -> None:
    labels = [number for number in range(52) for _ in range(number + 1)]
    lines = class_table([f"c{n:02}" for n in range(52)], {"train": labels}).splitlines()
    assert lines[1].split() == ["c51", "52"]
    assert lines[13].rstrip() == "(35 more)"
    assert [line.split()[0] for line in lines[14:]] == ["c04", "c03", "c02", "c01", "c00"]


def test_lengths() -> None:
    lengths = list(range(1, 101))
    assert length_line(lengths, 90) == (
        "Tokens of a training document: median 51, 95 % up to 96, longest 100; "
        "10 of 100 are cut to 90 (data.max_length)"
    )
    assert length_line([7], None).endswith("longest 7; none is cut (data.max_length)")


def test_unequal_classes() -> None:
    assert are_unequal([2000, 60])
    assert are_unequal([11, 2, 0])
    assert not are_unequal([10, 2])
    assert not are_unequal([10])
    assert not are_unequal([])
