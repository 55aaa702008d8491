"""Scores of each class, and the warning about classes that are never predicted."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from seqnorm.training.results.scores import (
    class_scores,
    never_predicted,
    print_scores,
    write_class_scores,
)

CONFUSION = torch.tensor([[5, 2, 0], [1, 3, 0], [2, 0, 0]])
CLASSES = ("a", "b", "c,d")


def test_scores_of_each_class(tmp_path: Path) -> None:
    cells = [(i, j) for i in range(3) for j in range(3) for _ in range(int(CONFUSION[i, j]))]
    true, predicted = zip(*cells)
    expected = precision_recall_fscore_support(true, predicted, labels=[0, 1, 2], zero_division=0)
    found = class_scores(CONFUSION, CLASSES)
    for place, values in enumerate(expected[:3]):
        ours = [(each.precision, each.recall, each.f1)[place] for each in found]
        assert ours == pytest.approx(values)
    assert [each.documents for each in found] == expected[3].tolist()
    assert [each.predicted for each in found] == [8, 5, 0]
    write_class_scores(CONFUSION, CLASSES, tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    assert rows[0] == {
        "class": "a",
        "documents": "7",
        "predicted": "8",
        "precision": "0.6250",
        "recall": "0.7143",
        "f1": "0.6667",
    }


def test_a_class_with_a_line_end(tmp_path: Path) -> None:
    write_class_scores(CONFUSION, ("a\rb", "b", "c"), tmp_path / "classes.csv")
    with open(tmp_path / "classes.csv", newline="", encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["a\rb", "b", "c"]


def test_classes_that_are_never_predicted() -> None:
    assert never_predicted(CONFUSION, CLASSES, "series") == "Never predicted: c,d (series: 2)"
    assert never_predicted(torch.eye(3), CLASSES, "documents") == ""
    empty = torch.diag(torch.tensor([1, 1, 0]))
    assert never_predicted(empty, CLASSES, "documents") == "", "nor does it occur"
    many = torch.zeros(20, 20)
    many[:, 0] = 1
    found = never_predicted(many, [f"c{n}" for n in range(20)], "documents")
    assert found.endswith("c10 (documents: 1) and 9 more")


def test_the_table_of_many_classes(capsys: pytest.CaptureFixture[str]) -> None:
    confusion = torch.eye(52) * 3
    confusion[51, 51], confusion[51, 0] = 0, 3
    print_scores("x", 0.5, confusion[None], ["all"], [f"[b]c{n}" for n in range(52)])
    shown = capsys.readouterr().out
    assert "the 20 classes of the lowest F1, of 52" in shown
    assert "│ [b]c51 " in shown
    assert "│ [b]c50 " not in shown
    assert shown.splitlines()[-1].startswith("x: accuracy 0.9808")
