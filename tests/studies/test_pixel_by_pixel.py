"""The study of sequences read pixel by pixel: data, tiny runs, figures and numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from tuned import tuned

from seqnorm.datasets import Series, SeriesCorpus
from seqnorm.studies.configuration import load
from seqnorm.studies.pixel_by_pixel import data as data_module
from seqnorm.studies.pixel_by_pixel import study as study_module
from seqnorm.studies.pixel_by_pixel.data import Sequences, Task, digits, japanese_vowels
from seqnorm.studies.pixel_by_pixel.study import Classifier, PixelByPixel, accuracy
from seqnorm.studies.table import Table, run_id

FULL = load(PixelByPixel)
assert isinstance(FULL, PixelByPixel)


def part(count: int, seed: int) -> Sequences:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 7, (count,), generator=draw)
    classes = torch.randint(2, (count,), generator=draw)
    values = torch.randn(count, 6, 1, generator=draw) + 3 * classes[:, None, None]
    return Sequences(values, lengths, classes)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> PixelByPixel:
    task = Task(part(40, 0), part(10, 1), part(20, 2))
    monkeypatch.setattr(study_module, "_load", lambda name, root: task)
    small = {"epochs": {"digits": 2}, "tasks": ["digits"], "hidden": 4, "batch": 16}
    return dataclasses.replace(FULL, **small)


@pytest.mark.parametrize("norm", FULL.norms)
def test_a_run(norm: str, tiny: PixelByPixel) -> None:
    setting = {"task": "digits", "stage": "run", "norm": norm, "rate": 1e-2, "seed": 0}
    outcome = tiny.run(setting)
    assert outcome == tiny.run(setting)
    others = {"accuracy_anew", "accuracy_average", "accuracy_batch"}
    assert set(tiny.measures) - set(outcome.values) == (set() if norm == "batch" else others)
    curve = outcome.curves["validation"]
    assert [epoch for epoch, _ in curve] == [1, 2]
    assert outcome.values["validation"] == curve[-1][1]
    assert outcome.values["mean_validation"] == sum(value for _, value in curve) / 2


def test_statistics_taken_anew_change_evaluation_and_not_training(tiny: PixelByPixel) -> None:
    setting = {"task": "digits", "stage": "run", "norm": "batch", "rate": 1e-2, "seed": 0}
    plain, anew = tiny.run(setting).values, tiny.run({**setting, "norm": "batch_anew"}).values
    assert plain["loss"] == anew["loss"]
    assert plain["accuracy_anew"] == anew["accuracy"]


def test_the_accuracy_is_that_of_inference_and_needs_no_padding() -> None:
    torch.manual_seed(0)
    model = Classifier("lstm", 1, 4, 2, "batch")
    test = part(20, 2)
    for _ in range(30):
        model.train()(part(16, 5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alone = [
        int(model.eval()(test.take(torch.tensor([i]))).argmax()) == int(test.classes[i])
        for i in range(20)
    ]
    poisoned = test._replace(values=test.values.clone())
    for row, length in enumerate(test.lengths.tolist()):
        poisoned.values[row, length:] = torch.nan
    model.train()
    assert accuracy(model, poisoned) == pytest.approx(sum(alone) / 20)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    found = accuracy(model, test, by_batch=True)
    assert not model.training
    nn.init.zeros_(model.recurrent.weight_ih_l0)
    assert 0 <= found <= 1


def test_digits_are_read_pixel_by_pixel() -> None:
    plain, permuted = digits(False), digits(True)
    assert [len(each.classes) for each in plain] == [1200, 200, 397]
    assert plain.train.values.shape == (1200, 64, 1)
    assert set(plain.test.lengths.tolist()) == {64}
    assert plain.train.values.mean() == pytest.approx(0, abs=1e-5)
    assert plain.train.values.std() == pytest.approx(1, abs=1e-5)
    for first, second in zip(plain, permuted):
        assert torch.equal(first.classes, second.classes)
        assert not torch.equal(first.values, second.values)
        assert torch.equal(first.values.sort(1).values, second.values.sort(1).values)


def test_utterances_are_standardised_and_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)

    def series(count: int) -> Series:
        values = [torch.randn(3 + i % 4, 2, generator=draw).double() * 5 + 7 for i in range(count)]
        labels = tuple("ba"[i % 2] for i in range(count))
        return Series(tuple(map(str, range(count))), tuple(values), labels)

    made = SeriesCorpus("vowels", ("x", "y"), (), series(40), None, series(10))
    monkeypatch.setattr(data_module, "load_series", lambda name, root: made)
    found = japanese_vowels("data")
    assert [len(each.classes) for each in found] == [32, 8, 10]
    train = found.train
    rows = torch.cat([row[:length] for row, length in zip(train.values, train.lengths)])
    assert torch.allclose(rows.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(rows.std(0), torch.ones(2), atol=1e-5)
    assert found.test.classes.tolist() == [1, 0] * 5
    assert found.test.values[0, 3:].eq(0).all()


def test_rates_are_chosen_for_every_task_and_norm(tiny: PixelByPixel) -> None:
    study = dataclasses.replace(tiny, rates=[0.1, 0.2], norms=["batch", "layer"])
    best = {"batch": 0.2, "layer": 0.1}
    done = tuned(
        study,
        lambda setting: {
            "mean_validation": -abs(float(str(setting["rate"])) - best[str(setting["norm"])])
        },
    )
    runs = [setting for setting in study.settings(done) if setting["stage"] == "run"]
    assert {(run["norm"], run["rate"]) for run in runs} == set(best.items())


def test_wrong_configurations_are_refused() -> None:
    for changed, message in (
        ({"tasks": ["mnist"]}, "tasks .'mnist'.: write some of digits"),
        ({"norms": ["group"]}, "norms .'group'.: write some of batch"),
        ({"epochs": {"digits": 3}}, "epochs has no number for digits_permuted, japanese_vowels"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(FULL, **changed)


def test_findings_and_figures() -> None:
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    for task in FULL.tasks:
        for norm in FULL.norms:
            for seed in range(5):
                setting = {"task": task, "stage": "run", "norm": norm, "rate": 0.1, "seed": seed}
                run = run_id(setting, PixelByPixel.factors)
                value = 0.9 + 1e-3 * seed - (0.2 if norm == "batch" else 0)
                measured = {"accuracy": value, "mean_validation": value, "accuracy_anew": 0.9}
                rows.append({"run": run, **setting, **measured})
                curves[run, "validation"] = [(1.0, 0.5), (2.0, value)]
    table = Table(rows, curves)
    found = {finding.quantity: finding for finding in FULL.findings(table)}
    lost = found["digits: test accuracy, BatchNorm minus LayerNorm"]
    assert lost.interval.mean == pytest.approx(-20)
    drawn = FULL.figures(table)
    assert list(drawn) == ["accuracy", "learning"]
    written = [text.get_text() for text in drawn["accuracy"].axes[0].texts]
    assert written == ["29.8", *["9.8"] * (len(FULL.norms) - 1)]
    lines = [len(axes.lines) for axes in drawn["learning"].axes]
    assert lines == [len(FULL.norms)] * len(FULL.tasks)
    assert list(FULL.figures(Table())) == list(drawn)
