"""Loggers by name, and the options, metrics and pictures that they get at the end of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SMALL
from source_tree import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqnorm.training.run.loggers import base_of

Command = Callable[..., None]
RUN = Path("runs/tiny/version_0")


def test_tensorboard_has_options_with_final_metrics_and_pictures(
    corpus: Path, run_seqnorm: Command
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2")
    found = EventAccumulator(str(RUN), {"images": 0, "scalars": 0}).Reload()
    tags = found.Tags()
    assert set(tags["images"]) == {"learning_curve", "confusion_matrix"}
    assert {"final/test_accuracy", "final/best_val_accuracy", "val_accuracy"} <= set(
        tags["scalars"]
    )
    (final,) = found.Scalars("final/test_accuracy")
    rows = (RUN / "metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(",")))
    assert final.value == pytest.approx(float(last["test_accuracy"]), abs=1e-6)
    started = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for name in (b"model.hidden_size", b"trainer.max_epochs", b"seed_everything"):
        assert name in started


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed(
    name: str,
    corpus: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--data.corpus", corpus, *SMALL, f"--run.loggers={name}")
    expected = f"the logger {name} needs the module {name}, which is not installed: pip install"
    assert expected in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_other_loggers(name: str, corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip(name)
    command = [sys.executable, "-m", "seqnorm", "fit", f"--data.corpus={corpus}", *SMALL]
    command += ["--trainer.max_epochs=1", f"--run.loggers=[tensorboard,{name}]"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    environment |= {"WANDB_MODE": "offline"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert list((tmp_path / RUN).glob("events*"))
    if name == "wandb":
        assert list((tmp_path / RUN / "wandb").glob("offline-run-*/*.wandb"))
        return
    pictures = {path.name for path in (tmp_path / "runs/mlflow").rglob("*.png")}
    assert pictures == {"learning_curve.png", "confusion_matrix.png"}


def test_every_fold_is_an_entry_of_its_own(corpus: Path, tmp_path: Path) -> None:
    """Weights & Biases would log all runs of a process into the first one."""
    pytest.importorskip("wandb")
    command = [sys.executable, "-m", "seqnorm", "fit", f"--data.corpus={corpus}", *SMALL]
    command += ["--trainer.max_epochs=1", "--run.loggers=wandb", "--folds=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    environment |= {"WANDB_MODE": "offline"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for number in (1, 2):
        fold = tmp_path / "runs" / "tiny" / "folds_0" / f"fold_{number}"
        assert len(list((fold / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_the_folder_of_all_runs_of_a_name() -> None:
    assert base_of(Path("runs/tiny/version_3")) == Path("runs/tiny")
    assert base_of(Path("runs/tiny/folds_1/fold_2")) == Path("runs/tiny")
    assert base_of(Path("runs/folds_1/version_0")) == Path("runs/folds_1")


def test_no_logger(corpus: Path, run_seqnorm: Command) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.logger=false")
    assert not list(RUN.glob("events*"))
    assert (RUN / "confusion_matrix.png").exists()
