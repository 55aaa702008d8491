"""An interrupted and resumed run ends exactly like an uninterrupted one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import OPTIONS, VARIANTS, assert_same, last, outcome
from small_runs import CrashError

from seqnorm.training import TextClassification

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumes_exactly_after_crashes(
    variant: str,
    corpus: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
) -> None:
    arguments = ("fit", "--data.corpus", corpus, *OPTIONS, *VARIANTS[variant])
    whole, broken = Path("runs/whole/version_0"), Path("runs/broken/version_0")
    run_seqnorm(*arguments, "--run.name=whole")
    crash_at(4)  # an epoch has 3 steps: in the middle of the second
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken")
    crash_at(9)  # before the first of the fourth
    with pytest.raises(CrashError):
        run_seqnorm("fit", "--ckpt_path", last(broken))
    crash_at(None)
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert outcome(whole)["last"]["epoch"] == 3
    assert_same(outcome(broken), outcome(whole))


def test_a_run_goes_on_from_the_end_of_an_epoch(
    corpus: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Several validations an epoch make no difference."""
    often = ("--trainer.val_check_interval=1", "--run.patience=100")
    arguments = ("fit", "--data.corpus", corpus, *OPTIONS, *often)
    whole, broken = Path("runs/whole/version_0"), Path("runs/broken/version_0")
    run_seqnorm(*arguments, "--run.name=whole")
    crash_at(5)  # two validations after the end of the first epoch
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken")
    crash_at(None)
    assert torch.load(last(broken), weights_only=True)["global_step"] == 3
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert_same(outcome(broken), outcome(whole))
    within = torch.load(last(broken), weights_only=True)
    within["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] -= 1
    torch.save(within, last(broken))
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", "--ckpt_path", last(broken))
    assert stop.value.code == 2
    assert "was written inside epoch 3" in capsys.readouterr().err
    del within["loops"]
    torch.save(within, last(broken))
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--ckpt_path", last(broken))
    assert "does not say where in training" in capsys.readouterr().err


def test_a_run_that_was_copied_goes_on_in_its_own_folder(
    corpus: Path, run_seqnorm: Callable[..., None], crash_at: Callable[[int | None], None]
) -> None:
    """A copied run uses its own best epoch, whatever files its checkpoint names."""
    arguments = ("fit", "--data.corpus", corpus, *OPTIONS)
    whole, broken = Path("runs/whole/version_0"), Path("runs/broken/version_0")
    run_seqnorm(*arguments, "--run.name=whole")
    crash_at(7)
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken")
    crash_at(None)
    copy = Path("elsewhere/version_0").absolute()
    shutil.copytree(broken, copy)
    stored = torch.load(last(copy), weights_only=True)
    named = "RunCheckpoint{'monitor': 'val_"
    (state,) = (state for key, state in stored["callbacks"].items() if key.startswith(named))
    victim = Path("victim.txt").absolute()
    victim.write_text("still here")
    state["kth_best_model_path"] = f"{copy}/checkpoints/../../../{victim.name}"
    state["dirpath"] = str(copy / "checkpoints")
    torch.save(stored, last(copy))
    before = (broken / "checkpoints" / "best.ckpt").read_bytes()
    run_seqnorm("fit", "--ckpt_path", last(copy))
    assert_same(outcome(copy), outcome(whole))
    assert victim.read_text() == "still here"
    assert (broken / "checkpoints" / "best.ckpt").read_bytes() == before
    shutil.rmtree(broken)
    copy.rename(copy.with_name("version_1"))  # a finished run
    run_seqnorm("fit", "--ckpt_path", last(copy.with_name("version_1")))
    assert_same(outcome(copy.with_name("version_1")), outcome(whole))


def test_a_stopped_run_stays_stopped(
    corpus: Path, run_seqnorm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path("runs/tiny/version_0")
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, "--run.patience=1", "--model.lr=0")
    before = outcome(run)
    assert before["last"]["epoch"] == 1
    run_seqnorm("fit", "--ckpt_path", last(run))
    assert_same(outcome(run), before)


def test_a_run_that_waits_for_its_least_epochs_stops_there(
    corpus: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later better epochs and an interruption change nothing, but more patience does."""

    def log(self: TextClassification, stage: str) -> None:
        value = (0.5, 0.4, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99)[self.trainer.current_epoch]
        self.log_dict({f"{stage}_accuracy": value, f"{stage}_macro_f1": value})

    monkeypatch.setattr(TextClassification, "log_metrics", log)
    options = ("--trainer.min_epochs=5", "--trainer.max_epochs=7", "--run.patience=1")
    arguments = ("fit", "--data.corpus", corpus, *OPTIONS, *options)
    run_seqnorm(*arguments, "--run.name=whole")
    whole, broken = (Path(f"runs/{name}/version_0") for name in ("whole", "broken"))
    assert outcome(whole)["last"]["epoch"] == 4
    crash_at(3 * 3 + 1)
    with pytest.raises(CrashError):
        run_seqnorm(*arguments, "--run.name=broken")
    crash_at(None)
    run_seqnorm("fit", "--ckpt_path", last(broken))
    assert_same(outcome(broken), outcome(whole))
    run_seqnorm("fit", "--ckpt_path", last(broken), "--run.patience=2")
    assert outcome(broken)["last"]["epoch"] == 6


def test_a_run_has_a_time(corpus: Path, run_seqnorm: Callable[..., None]) -> None:
    limits = ("--trainer.max_time=00:00:00:01", "--trainer.max_epochs=100000")
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, *limits, "--run.patience=100000")
    assert outcome(Path("runs/tiny/version_0"))["last"]["epoch"] < 1000


def test_a_run_has_one_row_of_results(corpus: Path, run_seqnorm: Callable[..., None]) -> None:
    run, results = Path("runs/tiny/version_0"), Path("results.csv")
    options = (*OPTIONS, "--run.results=results.csv", "--trainer.max_epochs=1")
    run_seqnorm("fit", "--data.corpus", corpus, *options)
    once = results.read_text("utf-8")
    for more in ((), ("--trainer.max_epochs=2",)):
        run_seqnorm("fit", "--ckpt_path", last(run), *more)
        assert results.read_text("utf-8") == once
    # The state of a run that was interrupted in its test.
    (run / "confusion_matrix.png").unlink()
    results.unlink()
    run_seqnorm("fit", "--ckpt_path", last(run))
    assert len(results.read_text("utf-8").splitlines()) == 2


def test_the_command_line_goes_before_the_checkpoint(
    corpus: Path, run_seqnorm: Callable[..., None]
) -> None:
    run = Path("runs/tiny/version_0")
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, "--trainer.max_epochs=1")
    run_seqnorm("fit", "--ckpt_path", last(run), "--trainer.max_epochs=2", "--model.lr=0.5")
    checkpoint = torch.load(last(run), weights_only=True)
    assert checkpoint["epoch"] == 1
    assert checkpoint["hyper_parameters"]["lr"] == 0.5
    assert checkpoint["hyper_parameters"]["zoneout"] == 0.1


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_is_read_once(
    command: str, corpus: Path, run_seqnorm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path("runs/tiny/version_0")
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, "--trainer.max_epochs=1")
    Path("lines.txt").write_text("corn\n")
    more = {"fit": ("--trainer.max_epochs=2",), "predict": ("--input=lines.txt",)}
    read: list[str] = []
    load = torch.load

    def note(path: Any, **options: Any) -> Any:
        read.append(Path(path).name)
        return load(path, **options)

    monkeypatch.setattr(torch, "load", note)
    run_seqnorm(command, "--ckpt_path", last(run), *more.get(command, ()))
    # After training, fit tests the best epoch.
    assert read == ["last.ckpt", *(["best.ckpt"] if command == "fit" else [])]


def test_the_configuration_of_a_resumed_run_is_in_its_folder(
    corpus: Path, run_seqnorm: Callable[..., None]
) -> None:
    run = Path("runs/tiny/version_0")
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, "--trainer.max_epochs=1")
    stored = torch.load(last(run), weights_only=True)
    assert "config" not in stored
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("max_epochs: 1", "max_epochs: 2"))
    run_seqnorm("fit", "--ckpt_path", last(run))
    assert torch.load(last(run), weights_only=True)["epoch"] == 1


def test_a_checkpoint_that_was_moved_is_not_resumed(
    corpus: Path, run_seqnorm: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *OPTIONS, "--trainer.max_epochs=1")
    last(Path("runs/tiny/version_0")).rename("moved.ckpt")
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--ckpt_path=moved.ckpt")
    assert "moved.ckpt is not where a run left it" in capsys.readouterr().err
    Path("checkpoints").mkdir()
    Path("moved.ckpt").rename("checkpoints/moved.ckpt")
    with pytest.raises(SystemExit):
        run_seqnorm("fit", "--ckpt_path=checkpoints/moved.ckpt")
    error = capsys.readouterr().err
    assert "in checkpoints/ beside the run's config.yaml" in error
    assert "test, validate and predict need the checkpoint alone" in error


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts ``fit`` in a process, and end the process after the test."""
    started: list[subprocess.Popen[str]] = []
    # A shell starts jobs in the background with this signal ignored, which they inherit.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def fit(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, ROOT / "train.py", "fit", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield fit
    for process in started:
        assert process.stdout is not None
        if not process.stdout.closed:
            process.kill()
            process.communicate()
    signal.signal(signal.SIGINT, handler)


def test_resumes_exactly_after_signals(
    corpus: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    # Enough epochs for all signals, even on a busy machine.
    longer = ("--trainer.max_epochs=80", "--run.patience=80")
    arguments = ("--data.corpus", corpus, *OPTIONS, *longer)
    whole = start(*arguments, "--run.name=whole")
    broken = tmp_path / "runs/broken/version_0"
    process = start(*arguments, "--run.name=broken")
    statuses = {
        signal.SIGKILL: -signal.SIGKILL,
        signal.SIGTERM: 128 + signal.SIGTERM,
        signal.SIGINT: 1,
    }
    for number, status in statuses.items():
        before = last(broken).stat().st_mtime_ns if last(broken).exists() else 0
        while not (last(broken).exists() and last(broken).stat().st_mtime_ns > before):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == status, output
        if number != signal.SIGKILL:
            assert f"seqnorm fit --ckpt_path {last(broken)}" in output
        process = start("--ckpt_path", last(broken))
    for one in (process, whole):
        output, _ = one.communicate()
        assert one.returncode == 0, output
    assert_same(outcome(broken), outcome(tmp_path / "runs/whole/version_0"))
