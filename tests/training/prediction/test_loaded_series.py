"""``seqnorm.load`` of models of series: the same answers as ``seqnorm predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_series import make, write_long

import seqnorm
from seqnorm.datasets import Scaling
from seqnorm.models import SeriesClassifier
from seqnorm.training import SeriesClassification, SeriesRegression
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint
from seqnorm.training.prediction.loaded_series import (
    LoadedSeriesClassifier,
    LoadedSeriesRegressor,
)
from seqnorm.training.prediction.series import predict

SERIES = make(9)
ARRAYS = [np.array(each["values"]) for each in SERIES.values()]
FEATURES = Scaling(("x", "y"), (0.5, 100.0), (2.0, 5.0)).to_json()
TARGETS = Scaling(("slope", "steps"), (0.1, 6.0), (3.0, 2.0)).to_json()


def saved(path: Path, model: Any) -> Path:
    stored = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    AtomicCheckpointIO().save_checkpoint(stored, path)
    return path


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = SeriesClassification(FEATURES, ("down", "up"), hidden_size=4, norm="batch")
    return saved(tmp_path / "a.ckpt", model)


@pytest.fixture
def regressor(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(tmp_path / "b.ckpt", SeriesRegression(FEATURES, TARGETS, hidden_size=4))


def of_the_command(checkpoint: Path, folder: Path, batch_size: int) -> list[dict[str, Any]]:
    """Return the rows that ``seqnorm predict`` writes for the same series."""
    write_long(folder / "a.csv", SERIES)
    out = folder / "out.jsonl"
    file = str(folder / "a.csv")
    predict(read_checkpoint(checkpoint), file, str(out), batch_size=batch_size)
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_classes(classifier: Path, tmp_path: Path, batch_size: int) -> None:
    model = seqnorm.load(classifier, task="series_classification")
    assert isinstance(model, LoadedSeriesClassifier)
    assert repr(model) == "LoadedSeriesClassifier(classes=('down', 'up'), features=('x', 'y'))"
    found = model.predict(iter(ARRAYS), batch_size=batch_size)
    expected = of_the_command(classifier, tmp_path, batch_size)
    assert [each.label for each in found] == [row["label"] for row in expected]
    assert [each.probabilities for each in found] == [row["probabilities"] for row in expected]
    assert model.predict([]) == []


def test_targets(regressor: Path, tmp_path: Path) -> None:
    model = seqnorm.load(regressor, task="series_regression")
    assert isinstance(model, LoadedSeriesRegressor)
    found = model.predict(ARRAYS)
    assert found == [row["targets"] for row in of_the_command(regressor, tmp_path, 64)]
    scaled = (torch.tensor(ARRAYS[0]) - torch.tensor([0.5, 100.0])) / torch.tensor([2.0, 5.0])
    with torch.no_grad():
        standard = model.model(scaled[None].float(), torch.tensor([len(scaled)]))[0]
    assert list(found[0]) == ["slope", "steps"]
    assert found[0]["slope"] == pytest.approx(0.1 + 3 * standard[0].item(), abs=1e-6)
    assert found[0]["steps"] == pytest.approx(6 + 2 * standard[1].item(), abs=1e-6)
    assert "targets=('slope', 'steps')" in repr(model)


def test_every_kind_of_array(classifier: Path) -> None:
    model = seqnorm.load(classifier)
    (array,) = ARRAYS[:1]
    expected = model.predict([array])
    trained = torch.tensor(array, requires_grad=True)
    assert model.predict([trained]) == expected
    assert model.predict([array.tolist()]) == expected
    assert model.predict(array[None]) == expected, "an array (N, T, F) is a list of series"
    whole = np.array([[1, 100], [2, 105]], dtype=np.int16)
    assert model.predict([whole]) == model.predict([whole.astype(float)])


@pytest.mark.parametrize(
    ("series", "kind", "message"),
    [
        (ARRAYS[0], ValueError, r"series 0 has the shape \(2,\), not .*write \[array\] for a sing"),
        (ARRAYS[0][:, :1][None], ValueError, "series 0 has 1 features, .* trained on 2: x, y"),
        ([ARRAYS[0], np.zeros((3, 5))], ValueError, "series 1 has 5 features, and the model"),
        ([ARRAYS[0], np.zeros((0, 2))], ValueError, "series 1 has no steps; leave it out"),
        ([[[1.0, 2.0], [3.0]]], ValueError, r"series 0 is no array \(steps, features\)"),
        ([[["a", "b"]]], TypeError, "series 0 holds <U1 in place of numbers"),
        ([torch.ones(2, 2) * 1j], TypeError, "series 0 holds torch.complex64 in place of real"),
        (
            [ARRAYS[0], np.array([[1.0, 2.0], [np.nan, np.nan]])],
            ValueError,
            r"series '1', step 1: the feature 'x' is missing \(NaN\); 2 values in all; fill in",
        ),
        ([[[1.0, np.inf]]], ValueError, "series '0', step 0: the feature 'y' is infinite"),
    ],
)
@pytest.mark.parametrize("task", ["classifier", "regressor"])
def test_what_is_refused(
    task: str, series: Any, kind: type[Exception], message: str, request: pytest.FixtureRequest
) -> None:
    model = seqnorm.load(request.getfixturevalue(task))
    with pytest.raises(kind, match=message):
        model.predict(series)


@pytest.mark.parametrize("task", ["classifier", "regressor"])
def test_long_series_are_read_in_chunks(
    task: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seqnorm.load(request.getfixturevalue(task))
    whole = model.predict(ARRAYS)
    calls = []
    in_chunks = SeriesClassifier.in_chunks

    def counted(*arguments: Any) -> Any:
        calls.append(arguments[1].shape)
        return in_chunks(*arguments)

    monkeypatch.setattr(SeriesClassifier, "in_chunks", counted)
    monkeypatch.setattr("seqnorm.training.prediction.series.LONG", 4)
    found = model.predict(ARRAYS)
    long = [len(array) for array in ARRAYS if len(array) > 4]
    assert calls == [(1, length, 2) for length in long]
    assert 0 < len(long) < len(ARRAYS)
    for ours, theirs in zip(found, whole):
        of_us = ours if isinstance(ours, dict) else ours.probabilities
        of_them = theirs if isinstance(theirs, dict) else theirs.probabilities
        assert of_us == pytest.approx(of_them, abs=1e-5)


def test_other_mistakes(classifier: Path, regressor: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        seqnorm.load(regressor).predict(ARRAYS, batch_size=0)  # type: ignore[call-arg]  # any kind
    with pytest.raises(ValueError, match="the task series_classification, not of classification"):
        seqnorm.load(classifier, task="classification")
