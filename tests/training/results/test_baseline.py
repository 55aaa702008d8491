"""The linear baseline."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from seqnorm.training.results.baseline import baseline


def test_learns_and_records(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline(str(corpus), results=str(tmp_path / "results.csv"))
    with (tmp_path / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["cell"], row["norm"]) == ("linear", "none")
    assert float(row["test_accuracy"]) > 0.9
    assert f"accuracy {row['test_accuracy']}" in capsys.readouterr().out


def test_the_message_without_scikit_learn(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"sklearn, which is.*'seqnorm\[train\]'",
    ):
        baseline(str(corpus))
