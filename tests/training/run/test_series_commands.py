"""The commands on series: fit, validate, test and predict, for classes and for targets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_runs import assert_picture
from small_series import SMALL, arrays, make, write_long, write_parquet
from zipped import zipped

from seqnorm.datasets import Scaling
from seqnorm.training import SeriesClassification, SeriesRegression

Command = Callable[..., None]
RUN = Path("runs/tiny/version_0")
BEST = RUN / "checkpoints" / "best.ckpt"
COLUMNS = "--data.feature_columns=[x,y]"
CLASSES = ("--task=series_classification", COLUMNS, "--model.length_edges=[4,6]")
TARGETS = ("--task=series_regression", COLUMNS, "--data.target_columns=[slope,steps]")
COUNTS = {"train": 60, "test": 20}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Make a folder with long tables of 60 series to train on and 20 to test on."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for seed, (part, count) in enumerate(COUNTS.items()):
        write_long(folder / f"{part}.csv", make(count, seed))
    return folder


def fit(run_seqnorm: Command, *arguments: str | Path) -> None:
    run_seqnorm("fit", "--data.corpus=tiny", *SMALL, *arguments)


def by_hand(model: Any, series: dict[str, dict[str, Any]], scaling: Scaling) -> torch.Tensor:
    """Return the outputs for each series, scaled by hand and read alone."""
    outputs = []
    for each in series.values():
        rows = [
            [(value - m) / s for value, m, s in zipped(step, scaling.mean, scaling.std)]
            for step in each["values"]
        ]
        outputs.append(model(torch.tensor([rows]), torch.tensor([len(rows)]))[0])
    return torch.stack(outputs).detach()


def metrics() -> list[dict[str, str]]:
    with (RUN / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_classification(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    options = ("--trainer.max_epochs=8", "--model.lr=0.05", "--model.norm=batch")
    fit(run_seqnorm, *CLASSES, *options, "--run.results=series.csv", "--run.monitor=val_loss")
    printed = capsys.readouterr().out
    assert "train.csv: id 'id'; time 'time'; features 'x', 'y'; label 'label'" in caplog.text
    assert "Series: 54 for train, 6 for validation; 3 to 8 steps; 2 features; 2 cl" in caplog.text
    rows = metrics()
    assert float(rows[-2]["train_loss"]) < float(rows[0]["train_loss"])
    tested = float(rows[-1]["test_accuracy"])
    assert tested >= 0.8
    assert f"tiny test: accuracy {tested:.4f}" in printed
    assert "│ series │" in printed.replace("┃", "│")
    assert_picture(RUN / "learning_curve.png")
    assert_picture(RUN / "confusion_matrix.png")
    scaling = Scaling.from_json((RUN / "features.json").read_text("utf-8"))
    assert scaling.names == ("x", "y")
    assert yaml.safe_load((RUN / "config.yaml").read_text())["task"] == "series_classification"
    with open("series.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["corpus"], row["cell"], row["norm"], row["lr"]) == ("tiny", "lstm", "batch", "0.05")
    assert float(row["test_accuracy"]) == pytest.approx(tested, abs=1e-4)
    least = min(float(row["val_loss"]) for row in rows[:-1])
    assert float(row["val_loss"]) == pytest.approx(least, abs=1e-4)
    BEST.rename("moved.ckpt")
    model = SeriesClassification.load_from_checkpoint("moved.ckpt").eval()
    series = make(20, 1)
    chances = by_hand(model, series, scaling).softmax(-1)
    hits = [model.classes[c.argmax()] == s["label"] for c, s in zipped(chances, series.values())]
    assert sum(hits) / 20 == pytest.approx(tested)
    for command in ("test", "validate"):
        run_seqnorm(command, "--ckpt_path=moved.ckpt")
    assert f"tiny test: accuracy {tested:.4f}" in capsys.readouterr().out
    write_parquet(Path("new.parquet"), series)
    np.savez("new.npz", **arrays(series, "padded"))
    for file in ("tiny/test.csv", "new.parquet", "new.npz"):
        run_seqnorm("predict", "--ckpt_path=moved.ckpt", f"--input={file}", "--batch_size=3")
        table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
        assert table[0] == ["id", "label", "down", "up"]
        assert [line[0] for line in table[1:]] == list(series)
        for line, found in zipped(table[1:], chances):
            assert line[1] == model.classes[found.argmax()]
            assert [float(number) for number in line[2:]] == pytest.approx(found.tolist(), abs=2e-5)
    run_seqnorm("predict", "--ckpt_path=moved.ckpt", "--input=new.npz", "--output=new.jsonl")
    objects = [json.loads(line) for line in Path("new.jsonl").read_text("utf-8").splitlines()]
    assert [found["id"] for found in objects] == list(series)
    assert [found["label"] for found in objects] == [line[1] for line in table[1:]]
    assert sum(objects[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_regression(tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--trainer.max_epochs=20", "--model.lr=0.03", "--model.projection_size=6")
    fit(run_seqnorm, *TARGETS, *options, "--run.results=series.csv", "--run.monitor=val_mae")
    printed = capsys.readouterr().out
    BEST.rename("moved.ckpt")
    model = SeriesRegression.load_from_checkpoint("moved.ckpt").eval()
    assert model.targets.names == ("slope", "steps")
    series = make(20, 1)
    targets = torch.tensor([each["targets"] for each in series.values()], dtype=torch.float64)
    predicted = by_hand(model, series, model.features).double()
    predicted = predicted * torch.tensor(model.targets.std) + torch.tensor(model.targets.mean)
    error = predicted - targets
    mae, rmse = error.abs().mean(0), error.square().mean(0).sqrt()
    r2 = 1 - error.square().sum(0) / (targets - targets.mean(0)).square().sum(0)
    assert r2[0] > 0.7
    stored = json.loads((RUN / "test.json").read_text("utf-8"))
    for number, name in enumerate(("slope", "steps")):
        found = stored[name]
        assert found["mae"] == pytest.approx(mae[number].item(), rel=1e-4)
        assert found["rmse"] == pytest.approx(rmse[number].item(), rel=1e-4)
        assert found["r2"] == pytest.approx(r2[number].item(), abs=1e-4)
        assert f"tiny test, {name}: MAE {found['mae']:.6g}, RMSE {found['rmse']:.6g}" in printed
    last = metrics()[-1]
    assert float(last["test_mae"]) == pytest.approx(mae.mean().item(), rel=1e-4)
    assert float(last["test_rmse/steps"]) == pytest.approx(rmse[1].item(), rel=1e-4)
    with open("series.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["test_r2"]) == pytest.approx(r2.mean().item(), abs=1e-4)
    assert row["val_loss"] == ""  # another quantity chose the epoch
    assert_picture(RUN / "learning_curve.png")
    assert "train_mae" in metrics()[0]
    assert Scaling.from_json((RUN / "targets.json").read_text("utf-8")) == model.targets
    for command in ("test", "validate"):
        run_seqnorm(command, "--ckpt_path=moved.ckpt")
    assert f"tiny test, slope: MAE {stored['slope']['mae']:.6g}" in capsys.readouterr().out
    predict = ("predict", "--ckpt_path=moved.ckpt", "--input=tiny/test.csv")
    run_seqnorm(*predict)
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[0] == ["id", "slope", "steps"]
    assert [line[0] for line in table[1:]] == list(series)
    for line, expected in zipped(table[1:], predicted.tolist()):
        assert [float(number) for number in line[1:]] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    run_seqnorm(*predict, "--format=jsonl", "--output=out.txt")
    first = json.loads(Path("out.txt").read_text("utf-8").splitlines()[0])
    assert first["id"] == "s0"
    assert list(first["targets"].values()) == pytest.approx(predicted[0].tolist(), rel=1e-4)


def test_a_finished_run_is_tested_on_a_new_file(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data.corpus=tiny/train.csv", "--data.test_fraction=0.2", "--run.name=tiny")
    fit(run_seqnorm, *CLASSES, "--trainer.max_epochs=3", "--model.lr=0.05", *options)
    new = {key: each for key, each in make(30, 5).items() if each["label"] == "up"}
    np.savez("new.npz", **arrays(new, "apart"))
    capsys.readouterr()
    run_seqnorm("test", "--ckpt_path", BEST, "--data.corpus=new.npz", "--data.feature_columns=null")
    model = SeriesClassification.load_from_checkpoint(BEST).eval()
    found = by_hand(model, new, model.features).argmax(-1)
    expected = (found == model.classes.index("up")).float().mean().item()
    assert f"new.npz test: accuracy {expected:.4f}" in capsys.readouterr().out
    run_seqnorm("validate", "--ckpt_path", BEST, "--data.corpus=new.npz")
    assert f"new.npz validation: accuracy {expected:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("on", [True, False])
def test_the_scale_is_that_of_the_training_part_alone(
    on: bool, tiny: Path, run_seqnorm: Command
) -> None:
    fit(run_seqnorm, *CLASSES, "--trainer.max_epochs=1", f"--data.standardise={on}".lower())
    stored = torch.load(BEST, weights_only=True)
    scaling = Scaling.from_json(stored["hyper_parameters"]["features"])
    if not on:
        assert scaling == Scaling.none(("x", "y"))
        return
    whole = [step for each in make(60).values() for step in each["values"]]
    mean = torch.tensor(whole, dtype=torch.float64).mean(0).tolist()
    assert list(scaling.mean) == pytest.approx(mean, abs=0.5)
    assert list(scaling.mean) != pytest.approx(mean, abs=1e-9), "without the validation part"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*CLASSES, "--data.label_column=z"), "no column 'z' (label); there are 'id', 'time'"),
        ((*CLASSES, "--model.norm=layr"), "did you mean 'layer'"),
        ((*CLASSES, "--data.time_colum=t"), "did you mean --data.time_column?"),
        ((*TARGETS, "--run.monitor=val_accuracy"), "run.monitor"),
        ((*TARGETS, "--data.corpus=japanese_vowels"), "use --task series_classification"),
        ((*CLASSES, "--data.batch_size=0"), "batch_size must be at least 1"),
        ((*CLASSES, "--data.label_column=slope"), "60 series in 60 classes rounds to no series"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    message: str,
    tiny: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        fit(run_seqnorm, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error[error.index("error:") :]
    assert not Path("runs").exists()


def test_what_a_checkpoint_refuses(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(run_seqnorm, *CLASSES, "--trainer.max_epochs=1")
    other = Path("other.csv")
    other.write_text("id,time,x,z,label\na,0,1,2,up\nb,0,1,2,sideways\n")
    three = Path("three.npz")
    np.savez(three, values=np.ones((2, 4, 3)), labels=np.array(["up", "down"]))
    more = Path("more.csv")
    more.write_text("id,time,x,y,label\na,0,1,2,up\nb,0,1,2,sideways\n")
    for arguments, message in (
        (("predict", f"--input={other}"), "no column 'y' (features)"),
        (("predict", f"--input={three}"), "three.npz has the features 0, 1, 2, and the model was"),
        (("predict", "--input=tiny"), "a file of series must end in one of"),
        (("predict", f"--input={other}", "--feature_columns=[x]"), "has the features x, and the"),
        (("predict", f"--input={more}", "--batch_size=0"), "batch_size must be at least 1"),
        (("test", f"--data.corpus={more}"), "classes that are not in the training part: sideways"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_seqnorm(arguments[0], "--ckpt_path", BEST, *arguments[1:])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    run_seqnorm("predict", "--ckpt_path", BEST, f"--input={other}", "--feature_columns=[x,z]")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_one_class(tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"s{number},0,{number},up\n" for number in range(20))
    Path("one.csv").write_text(f"id,time,x,label\n{rows}")
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--task=series_classification", "--data.corpus=one.csv", *SMALL)
    assert "has only the class 'up', and at least two classes are needed" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_names_the_series(
    tiny: Path,
    run_seqnorm: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forward = SeriesClassification.forward

    def spoilt(self: SeriesClassification, *args: torch.Tensor) -> torch.Tensor:
        return forward(self, *args) * (torch.nan if self.training else 1.0)

    monkeypatch.setattr(SeriesClassification, "forward", spoilt)
    with pytest.raises(SystemExit) as stop:
        fit(run_seqnorm, *CLASSES, "--trainer.max_epochs=1")
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    numbers = error.partition("; series ")[2].split(", ")
    assert len({*map(int, numbers)}) == 8
