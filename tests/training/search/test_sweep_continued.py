"""Sweeps that are interrupted, killed, continued, or shared by processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_series import SMALL as SMALL_SERIES
from small_series import make, write_long
from small_sweeps import CLASSES, SPACE, SWEEP, Command, refused, sweep, table
from source_tree import ROOT

from seqnorm.datasets import DatasetError, FetchError
from seqnorm.training.search import main as sweeps
from seqnorm.training.search import study as studies


@pytest.mark.parametrize(
    "error", [DatasetError("moved"), pytest.param(FetchError("offline"), marks=pytest.mark.whole)]
)
def test_an_error_of_the_corpus_ends_the_sweep(
    error: Exception,
    tiny: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trial during which the corpus was moved away is planned again."""

    def fail(*arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("seqnorm.training.search.trials.build", fail)
        options = ("tiny", *SMALL_SERIES, *CLASSES, SPACE, "--trials=2")
        assert refused(run_seqnorm, capsys, *options) == f"error: {error}"
    (row,) = table()
    assert (row["state"], row["error"]) == ("interrupted", "")
    tiny.rename("elsewhere")
    assert "tiny is neither a corpus" in refused(run_seqnorm, capsys, f"--resume={SWEEP}")
    assert len(table()) == 1, "no trial has begun"
    Path("elsewhere").rename(tiny)
    run_seqnorm("sweep", "--resume", SWEEP)
    rows = table()
    assert [row["state"] for row in rows] == ["interrupted", "complete", "complete"]
    assert rows[1]["model.lr"] == rows[0]["model.lr"]
    assert "Trial 2 (2 of 2) | " in capsys.readouterr().out


def test_other_data_are_refused(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(run_seqnorm, SPACE, "--trials=1")
    write_long(tiny / "train.csv", make(41, 0))
    error = refused(run_seqnorm, capsys, f"--resume={SWEEP}", "--trials=2")
    assert f"{SWEEP}: the run cannot be resumed, because the data have changed" in error
    assert len(table()) == 1
    write_long(tiny / "train.csv", make(40, 0))
    run_seqnorm("sweep", "--resume", SWEEP, "--trials=2")
    assert len(table()) == 2


def test_features_may_be_searched_over(tiny: Path, run_seqnorm: Command) -> None:
    """The data that a sweep remembers do not depend on the trial that was built first."""
    sweep(run_seqnorm, "--space={data.feature_columns: [[x], [y]]}", "--trials=1")
    run_seqnorm("sweep", "--resume", SWEEP, "--trials=2")
    assert len(table()) == 2


def test_a_trial_that_is_interrupted_is_tried_again_without_limit(
    tiny: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    options: tuple[str, ...] = ("tiny", *SMALL_SERIES, *CLASSES, SPACE, "--model.lr=0.0625")
    count = studies.MOST_DEATHS + 2
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "run_trial", interrupt)
        for _ in range(count):
            with pytest.raises(SystemExit) as stop:
                run_seqnorm("sweep", *options)
            assert stop.value.code == 128 + signal.SIGINT
            shown = capsys.readouterr().out
            assert shown.endswith(f"To continue it:\n  seqnorm sweep --resume {SWEEP}\n")
            options = ("--resume", str(SWEEP))
    run_seqnorm("sweep", "--resume", SWEEP, "--trials=1")
    assert f"Trial {count} (1 of 1) | val_loss" in capsys.readouterr().out
    rows = table()
    assert [row["state"] for row in rows] == ["interrupted"] * count + ["complete"]
    assert {row["model.lr"] for row in rows} == {"0.0625"}


def test_options_with_which_processes_die_are_given_up(
    tiny: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*arguments: object) -> None:
        raise RuntimeError("a fault of the program")

    options: tuple[str, ...] = ("tiny", *SMALL_SERIES, *CLASSES, SPACE, "--model.lr=0.0625")
    count = studies.MOST_DEATHS
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "run_trial", die)
        for _ in range(count):
            with pytest.raises(RuntimeError, match="a fault of the program"):
                run_seqnorm("sweep", *options)
            options = ("--resume", str(SWEEP))
    assert "given up" not in capsys.readouterr().out
    run_seqnorm("sweep", "--resume", SWEEP, "--trials=1")
    words = f"The options of trial {count - 1} are given up, because {count} processes died with"
    assert f"{words} them: lr 0.0625, norm layer\n" in capsys.readouterr().out
    rows = table()
    assert [row["state"] for row in rows] == ["interrupted"] * count + ["complete"]
    assert [row["model.lr"] == "0.0625" for row in rows] == [True] * count + [False]


def test_no_trial_begins_after_the_limit(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(run_seqnorm, SPACE, "--trials=2", "--hours=1e-9")
    assert "0 trials: none. The table is" in capsys.readouterr().out
    assert table() == []
    run_seqnorm("sweep", f"--resume={SWEEP}", "--hours=1", "--trials=1")
    assert [row["state"] for row in table()] == ["complete"]


# A process that gets a signal after the first validation of its first trial.
SIGNALLED = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
# A shell starts its background processes without SIGINT, and so those that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
from seqnorm.training.search import main as sweeps
run = sweeps.run_trial
def die(task, parser, config, path, report):
    def kill(validation, value):
        os.kill(os.getpid(), int(sys.argv[1]))
    return run(task, parser, config, path, kill)
sweeps.run_trial = die
from seqnorm.command.main import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_signals(tiny: Path, tmp_path: Path) -> None:
    """Lightning turns both signals into ends of the program."""
    statuses = {signal.SIGINT: 1, signal.SIGTERM: 128 + signal.SIGTERM}
    started = []
    for number in statuses:
        arguments = ["sweep", "tiny", *SMALL_SERIES, *CLASSES, SPACE, f"--run.name={int(number)}"]
        process = subprocess.Popen(
            [sys.executable, "-c", SIGNALLED, str(int(number)), *arguments],
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "PATH": ""},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    ended = [process.communicate() for process in started]
    for process, (number, status), (output, errors) in zip(started, statuses.items(), ended):
        path = Path(f"runs/{int(number)}/sweep_0")
        assert process.returncode == status, errors
        assert output.endswith(f"To continue it:\n  seqnorm sweep --resume {path}\n")
        assert [row["state"] for row in table(tmp_path / path)] == ["interrupted"]
        assert '"deaths":0' in (tmp_path / path / studies.JOURNAL).read_text().replace(" ", "")


# A process that is killed after the first validation of its second trial.
KILLED = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from seqnorm.training.search import main as sweeps
run = sweeps.run_trial
def die(task, parser, config, path, report):
    def kill(validation, value):
        os.kill(os.getpid(), signal.SIGKILL)
    return run(task, parser, config, path, kill if path.name == "trial_1" else report)
sweeps.run_trial = die
from seqnorm.command.main import main
main(sys.argv[1:])
"""


def test_a_killed_sweep_is_continued(
    tiny: Path, tmp_path: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "tiny", *SMALL_SERIES, *CLASSES, SPACE, "--trials=4"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments, "--run.name=killed"],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    path = Path("runs/killed/sweep_0")
    assert [row["state"] for row in table(path)] == ["complete"]
    assert f"  seqnorm sweep --resume {path}" in killed.stdout
    run_seqnorm("sweep", "--resume", path, "--hours=9")
    assert "4 complete, 1 interrupted" in capsys.readouterr().out
    rows = table(path)
    states = [row["state"] for row in rows]
    assert states == ["complete", "interrupted", "complete", "complete", "complete"]
    run_seqnorm(*arguments)
    whole = [(row["model.lr"], row["model.norm"], row["value"]) for row in table()]
    done = [row for row in rows if row["state"] == "complete"]
    assert [(row["model.lr"], row["model.norm"], row["value"]) for row in done] == whole
    # A finished sweep does nothing, and more trials may be asked for.
    before = (path / "trials.csv").read_text()
    run_seqnorm("sweep", "--resume", path)
    assert (path / "trials.csv").read_text() == before
    run_seqnorm("sweep", "--resume", path, "--trials", "5")
    assert len(table(path)) == 6
    error = refused(run_seqnorm, capsys, "--resume", str(path), "--model.lr=1", "--trials=9")
    assert "leave out --model.lr: a sweep that is continued has the options of its" in error
    (path / "sweep.yaml").write_text("{config: 3}")
    assert "is not what a sweep has written" in refused(run_seqnorm, capsys, f"--resume={path}")


def test_two_processes_share_the_trials(tiny: Path, tmp_path: Path, run_seqnorm: Command) -> None:
    sweep(run_seqnorm, SPACE, "--trials=1")
    command = [sys.executable, "-W", "ignore", "-m", "seqnorm", "sweep", "--resume", str(SWEEP)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    processes = [
        subprocess.Popen(
            [*command, "--trials=6"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    rows = table()
    assert [int(row["trial"]) for row in rows] == list(range(6))
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert len({row["model.lr"] for row in rows}) == 6, "each draws for itself"
    shown = [output.count("\nTrial ") for output, _ in outputs]
    assert sum(shown) == 5
