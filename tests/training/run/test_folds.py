"""``fit --folds`` trains a run for each fold, shows mean and spread, and can be interrupted."""

from __future__ import annotations

import csv
import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Optional

import pytest
import small_series
import torch
import yaml
from small_runs import SMALL, CrashError, assert_picture
from zipped import zipped

from seqnorm.files import lock
from seqnorm.training.checkpoints.checkpoint_file import read_checkpoint
from seqnorm.training.results.rows import read_rows
from seqnorm.training.run import folds

Command = Callable[..., None]
Crash = Callable[[Optional[int]], None]
CLASSIFIER = (*SMALL, "--trainer.max_epochs=2", "--model.lr=0.05")
SERIES = (*small_series.SMALL, "--trainer.max_epochs=2", "--data.feature_columns=[x, y]")
FOLDS = Path("runs/docs/folds_0")


@pytest.fixture
def docs(corpus: Path, tmp_path: Path) -> str:
    """Make a file of 90 documents of three classes."""
    (tmp_path / "docs.csv").write_text((corpus / "train.csv").read_text())
    return "docs.csv"


def results(path: Path = FOLDS) -> list[dict[str, str]]:
    """Return folds.csv without the times."""
    rows = read_rows(path / "folds.csv")
    for row in rows:
        assert float(row.pop("seconds")) >= 0
    return rows


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path / "checkpoints" / "best.ckpt").weights)


def assert_same_weights(ours: Path, theirs: Path) -> None:
    for (name, one), (other, two) in zipped(weights(ours).items(), weights(theirs).items()):
        assert name == other
        assert torch.equal(one, two)


def test_text_classification(
    docs: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm("fit", docs, "--folds", "3", *CLASSIFIER, "--run.results=all.csv")
    lines = capsys.readouterr().out.splitlines()
    rows = results()
    assert [row["fold"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        (line,) = (each for each in lines if each.startswith(f"Fold {row['fold']} of 3: "))
        assert f"accuracy {row['test_accuracy']}, macro F1 {row['test_macro_f1']}; 2 ep" in line
        assert line.endswith(f"in runs/docs/folds_0/fold_{row['fold']}")
    spreads = []
    for name, label in (("test_accuracy", "accuracy"), ("test_macro_f1", "macro F1")):
        values = [float(row[name]) for row in rows]
        spreads.append(f"{label} {mean(values):.4f} ± {stdev(values):.4f}")
    assert f"docs.csv, 3 folds, mean ± standard deviation: {', '.join(spreads)}" in lines
    shared = [{k: row[k] for k in ("seed", "test_accuracy", "config")} for row in rows]
    in_all = [{k: row[k] for k in shared[0]} for row in read_rows("all.csv")]
    assert in_all == shared

    found = read_rows(FOLDS / "predictions.csv")
    texts = [row["text"] for row in read_rows(docs)]
    assert Counter(row["text"] for row in found) == dict.fromkeys(texts, 1)
    labels = {row["text"]: row["label"] for row in read_rows(docs)}
    for row in found:
        assert row["label"] == labels[row["text"]]
        chances = {name[2:]: float(value) for name, value in row.items() if name[:2] == "p_"}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[row["predicted"]] == max(chances.values())
    for row in rows:
        hits = [each["label"] == each["predicted"] for each in found if each["fold"] == row["fold"]]
        assert len(hits) == int(row["examples"]) == 30
        assert f"{mean(hits):.4f}" == row["test_accuracy"]
    assert_picture(FOLDS / "confusion_matrix.png")
    classes = read_rows(FOLDS / "classes.csv")
    assert {row["class"]: row["documents"] for row in classes} == dict.fromkeys(
        ("grain", "sport", "trade"), "30"
    )
    predicted = Counter(row["predicted"] for row in found)
    assert {row["class"]: int(row["predicted"]) for row in classes} == {
        name: predicted[name] for name in ("grain", "sport", "trade")
    }


def test_a_fold_is_an_ordinary_run(
    docs: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row says how to train it alone; test and predict take its checkpoint."""
    run_seqnorm("fit", docs, "--folds=3", *CLASSIFIER)
    fold = FOLDS / "fold_2"
    row = results()[1]
    run_seqnorm("fit", *shlex.split(row["config"]))
    alone = Path("runs/docs/version_0")
    assert_same_weights(alone, fold)
    assert (alone / "metrics.csv").read_text() == (fold / "metrics.csv").read_text()
    configs = [yaml.safe_load((path / "config.yaml").read_text()) for path in (alone, fold)]
    assert configs[0] == configs[1]
    assert (configs[0]["data"]["folds"], configs[0]["data"]["fold"]) == (3, 2)
    best = fold / "checkpoints" / "best.ckpt"
    capsys.readouterr()
    run_seqnorm("test", "--ckpt_path", best)
    assert f"accuracy {row['test_accuracy']}, macro" in capsys.readouterr().out.splitlines()[-1]
    run_seqnorm("predict", docs, "-o", "out.csv", "--ckpt_path", best)
    chances = {each["text"]: each["grain"] for each in read_rows("out.csv")}
    for each in read_rows(FOLDS / "predictions.csv"):
        if each["fold"] == "2":
            assert float(each["p_grain"]) == pytest.approx(float(chances[each["text"]]), abs=2e-6)
    with pytest.raises(SystemExit):
        run_seqnorm("test", "--ckpt_path", best, "--data.fold=1")
    assert "data.fold is 1 and was 2 in training" in capsys.readouterr().err
    run_seqnorm("test", docs.replace("docs", "./docs"), "--ckpt_path", best)
    Path("new.csv").write_text(Path(docs).read_text())
    run_seqnorm("test", "new.csv", "--ckpt_path", best)  # as a whole
    assert "│ all    │        90 │" in capsys.readouterr().out


@pytest.mark.parametrize("step", [12, 0])  # inside the second epoch, and before a checkpoint
def test_it_goes_on(
    step: int,
    docs: str,
    run_seqnorm: Command,
    crash_at: Crash,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Finished folds are kept, and the rest ends as without the interruption."""
    options = ("--folds=3", *CLASSIFIER, "--run.results=all.csv")
    options += ("--data.batch_size=8", "--run.save_every_n_steps=3")
    run_seqnorm("fit", docs, *options, "--run.name=whole")
    whole = Path("runs/whole/folds_0")
    with monkeypatch.context() as patch:
        patch.setattr(folds, "write_atomically", crashing_after_the_first(crash_at, step))
        with pytest.raises(CrashError):
            run_seqnorm("fit", docs, *options)
    assert (FOLDS / "fold_2" / "checkpoints" / "last.ckpt").exists() == (step > 0)
    shown = capsys.readouterr()
    assert f"1 of 3 folds. To go on:\nseqnorm fit --folds_path {FOLDS}\n" in shown.out
    assert "--ckpt_path" not in shown.out + shown.err
    before = (FOLDS / "fold_1" / "fold.json").read_text()
    crash_at(None)
    run_seqnorm("fit", "--folds_path", FOLDS)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("fold_1, finished before")]
    assert (FOLDS / "fold_1" / "fold.json").read_text() == before
    for number in (1, 2, 3):
        assert_same_weights(FOLDS / f"fold_{number}", whole / f"fold_{number}")
    assert (FOLDS / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()
    for ours, theirs in zipped(results(), results(whole)):
        own = ("config", "run")
        assert {k: v for k, v in ours.items() if k not in own} == {
            k: v for k, v in theirs.items() if k not in own
        }
        assert f"--data.fold {ours['fold']}" in ours["config"]
    assert len(read_rows("all.csv")) == 6

    # The last moment: the run had finished, and its results were not yet kept.
    (FOLDS / "fold_3" / "fold.json").unlink()
    run_seqnorm("fit", "--folds_path", FOLDS)
    assert (FOLDS / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()
    assert len(read_rows("all.csv")) == 6


def crashing_after_the_first(crash_at: Crash, step: int) -> Callable[[Path, str], None]:
    """Return a function that writes a file, and after that of a fold lets training crash."""
    write_first = folds.write_atomically

    def write(path: Path, content: str) -> None:
        write_first(path, content)
        if path.name == folds.FINISHED:
            crash_at(step)

    return write


def test_other_data_or_options_are_refused(
    docs: str,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm("fit", docs, "--folds=2", *CLASSIFIER, "--trainer.max_epochs=1")

    def refused(*words: str | Path) -> str:
        with pytest.raises(SystemExit) as stop:
            run_seqnorm("fit", *words)
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    go_on = ("--folds_path", FOLDS)
    assert "config.yaml: leave out --model.lr=1" in refused(*go_on, "--model.lr=1")
    assert "leave out --data.corpus=docs.csv" in refused(docs, *go_on)
    with (FOLDS / ".lock").open("ab") as file:
        lock(file)
        assert f"another process trains the folds in {FOLDS}" in refused(*go_on)
    before = Path(docs).read_text()
    Path(docs).write_text(before.replace("train0,", "changed0,"))
    assert "the data have changed" in refused(*go_on)
    Path(docs).write_text(before)
    (FOLDS / "cross_validation.json").write_text("{}")
    assert "cross_validation.json is damaged" in refused(*go_on)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--folds=1", "folds must be at least 2, got 1"),
        ("--folds=31", "the rarest class, 'grain', has 30 of the 90 documents"),
        ("--folds=3 --find_lr", "--folds with find_lr: there would be no test"),
        ("--folds=3 --trainer.fast_dev_run=true", "--folds with trainer.fast_dev_run"),
        ("--folds=3 --trainer.limit_test_batches=0", "with trainer.limit_test_batches 0"),
        ("--folds=3 --trainer.devices=2", "need a single process, not 2"),
        ("--folds=3 --data.fold=1", "--folds 3 trains all folds: leave data.folds and data.fold"),
        ("--folds=3 --model.norm=layr", "unknown norm 'layr'"),
        ("--data.fold=1", "data.fold 1 needs data.folds"),
        ("--data.folds=3", "data.folds 3 needs data.fold, the number of the fold to test on"),
        ("--data.folds=3 --data.fold=4", "fold must lie between 1 and folds=3, got 4"),
        ("--task=language --folds=3", "a language model is tested on texts that follow"),
        ("--task=language --data.folds=3 --data.fold=1", "a language model is tested on texts"),
        ("--config=more.yaml", "give --folds_path on the command line"),
    ],
)
def test_options_that_cannot_be(
    words: str,
    expected: str,
    docs: str,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused in one line, and leave no folder behind."""
    Path("more.yaml").write_text("folds_path: runs/docs/folds_0\n")
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", docs, *words.split(), *small_of(words))
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().rglob("folds_*"))
    assert not list(Path().rglob("version_*"))


def small_of(words: str) -> tuple[str, ...]:
    return () if "language" in words else CLASSIFIER


def test_a_checkpoint_is_of_a_single_run(
    docs: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm(
        "fit", docs, *CLASSIFIER, "--trainer.max_epochs=1", "--data.folds=2", "--data.fold=2"
    )
    last = Path("runs/docs/version_0/checkpoints/last.ckpt")
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--ckpt_path", last, "--folds=2")
    assert "--ckpt_path resumes a single run, without --folds" in capsys.readouterr().err
    run_seqnorm("fit", "--ckpt_path", last, "--trainer.max_epochs=2")  # it has its folds


def test_folds_of_a_run_that_had_none(
    docs: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would hold documents that the model was trained on."""
    run_seqnorm("fit", docs, *CLASSIFIER, "--trainer.max_epochs=1", "--data.test_fraction=0.2")
    best = Path("runs/docs/version_0/checkpoints/best.ckpt")
    for stored in (True, False):  # checkpoints of earlier versions do not name the folds
        contents = torch.load(best, weights_only=True)
        if not stored:
            for name in ("folds", "fold"):
                del contents["datamodule_hyper_parameters"][name]
            torch.save(contents, best)
        with pytest.raises(SystemExit):
            run_seqnorm("test", "--ckpt_path", best, "--data.folds=3", "--data.fold=1")
        assert "data.folds is 3 and was None in training" in capsys.readouterr().err
        run_seqnorm("test", "--ckpt_path", best)
        assert "docs.csv test: accuracy" in capsys.readouterr().out


def test_a_number_in_a_configuration_and_unequal_classes(
    run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    """All folds choose their best epoch by the same quantity, which is said once."""
    with Path("docs.csv").open("w", newline="") as file:
        rows = [
            (f"{'corn' if n % 8 else 'goal'} w{n}", "no" if n % 8 else "yes") for n in range(80)
        ]
        csv.writer(file).writerows([("text", "label"), *rows])
    Path("folds.yaml").write_text("folds: 2\ntrainer: {max_epochs: 1}\n")
    with caplog.at_level("INFO"):
        run_seqnorm("fit", "docs.csv", "--config=folds.yaml", *SMALL)
    assert caplog.text.count("The classes are unequal") == 1
    rows = results()
    assert [len(row) for row in rows] == [len(rows[0])] * 2
    for row in rows:
        assert "--folds null --data.folds 2 --run.monitor val_macro_f1" in row["config"]
        config = yaml.safe_load((Path(row["run"]) / "config.yaml").read_text())
        assert config["run"]["monitor"] == "val_macro_f1"
    words = shlex.split(rows[1]["config"])
    run_seqnorm("fit", *words)
    assert_same_weights(Path("runs/docs/version_0"), FOLDS / "fold_2")


@pytest.mark.parametrize("task", ["series_classification", "series_regression"])
def test_series(task: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]) -> None:
    series = small_series.make(36)
    small_series.write_parquet(Path("docs.parquet"), series)
    columns = {
        "series_classification": "--data.label_column=label",
        "series_regression": "--data.target_columns=[slope, steps]",
    }
    options = (f"--task={task}", columns[task], *SERIES, "--run.results=all.csv")
    run_seqnorm("fit", "docs.parquet", *options, "--folds=3")
    last = capsys.readouterr().out.splitlines()[-2]
    rows = results()
    assert len(rows) == len(read_rows("all.csv")) == 3
    names = {"test_accuracy": "accuracy", "test_macro_f1": "macro F1"}
    if task == "series_regression":
        names = {"test_mae": "MAE", "test_rmse": "RMSE", "test_r2": "R²"}
    for name, label in names.items():
        values = [float(row[name]) for row in rows]
        form = ".5g" if name in ("test_mae", "test_rmse") else ".4f"
        assert f"{label} {mean(values):{form}} ± {stdev(values):{form}}" in last
    found = read_rows(FOLDS / "predictions.csv")
    assert Counter(row["id"] for row in found) == dict.fromkeys(series, 1)
    for row in rows:
        own = [each for each in found if each["fold"] == row["fold"]]
        assert len(own) == int(row["examples"]) == 12
        check_scores(task, row, own, series)
    assert (FOLDS / "confusion_matrix.png").exists() == (task == "series_classification")
    capsys.readouterr()
    run_seqnorm("test", "--ckpt_path", FOLDS / "fold_3" / "checkpoints" / "best.ckpt")
    shown = capsys.readouterr().out
    if task == "series_classification":
        assert f"accuracy {rows[2]['test_accuracy']}, macro" in shown
    else:
        stored = json.loads((FOLDS / "fold_3" / "test.json").read_text())
        assert f"slope: MAE {stored['slope']['mae']:.6g}, " in shown
    run_seqnorm("fit", "--folds_path", FOLDS)
    assert "fold_3, finished before" in capsys.readouterr().out


def check_scores(
    task: str, row: dict[str, str], own: list[dict[str, str]], series: dict[str, Any]
) -> None:
    """Compute the scores of a fold from its predictions."""
    for each in own:
        true = series[each["id"]]
        if task == "series_classification":
            assert each["label"] == true["label"]
        else:
            assert [float(each["slope"]), float(each["steps"])] == true["targets"]
    if task == "series_classification":
        hits = [each["label"] == each["predicted"] for each in own]
        assert f"{mean(hits):.4f}" == row["test_accuracy"]
        return
    errors = [
        [abs(float(each[name]) - float(each[f"predicted_{name}"])) for each in own]
        for name in ("slope", "steps")
    ]
    assert mean(map(mean, errors)) == pytest.approx(float(row["test_mae"]), rel=1e-4)
    squares = [mean(error**2 for error in each) ** 0.5 for each in errors]
    assert mean(squares) == pytest.approx(float(row["test_rmse"]), rel=1e-4)
