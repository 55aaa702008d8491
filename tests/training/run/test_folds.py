"""``fit --folds`` trains a run for each fold, and shows mean and spread of their scores."""

from __future__ import annotations

import csv
import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import small_series
import yaml
from small_folds import CLASSIFIER, FOLDS, assert_same_weights, results
from small_runs import SMALL, assert_picture

from seqnorm.training.results.rows import read_rows

Command = Callable[..., None]
SERIES = (*small_series.SMALL, "--trainer.max_epochs=2", "--data.feature_columns=[x, y]")


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


@pytest.mark.parametrize(("configured", "given"), [(2, ()), (3, ("--folds", "2"))])
def test_a_number_in_a_configuration_and_unequal_classes(
    configured: int, given: tuple[str, ...], run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    """All folds choose their best epoch by the same quantity, which is said once.

    The options of a row repeat its fold, whether or not the command line had the number.
    """
    with Path("docs.csv").open("w", newline="") as file:
        rows = [
            (f"{'corn' if n % 8 else 'goal'} w{n}", "no" if n % 8 else "yes") for n in range(80)
        ]
        csv.writer(file).writerows([("text", "label"), *rows])
    Path("folds.yaml").write_text(f"folds: {configured}\ntrainer: {{max_epochs: 1}}\n")
    with caplog.at_level("INFO"):
        run_seqnorm("fit", "docs.csv", "--config=folds.yaml", *given, *SMALL)
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
