"""Pictures have a size, and lines and letters in them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_runs import assert_picture

from seqnorm.training.results.pictures import confusion_matrix, learning_curve


def test_learning_curve(tmp_path: Path) -> None:
    rows = [
        {"epoch": epoch, "train_loss": 2.0 / epoch, "val_loss": 1.0, "val_accuracy": 0.5}
        for epoch in range(1, 5)
    ]
    learning_curve(rows, tmp_path / "curve.png", "a $title of a run_")
    assert_picture(tmp_path / "curve.png")


def test_confusion_matrix(tmp_path: Path) -> None:
    for classes in (2, 52):
        path = tmp_path / f"{classes}.png"
        counts = torch.randint(0, 9, (classes, classes)) * (torch.rand(classes, classes) < 0.1)
        names = [f"class {number}" for number in range(classes)]
        confusion_matrix(counts + 50 * torch.eye(classes, dtype=torch.int64), names, "title", path)
        assert_picture(path)


def test_the_message_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"matplotlib, .*'seqnorm\[train\]'",
    ):
        learning_curve([], tmp_path / "curve.png", "title")
