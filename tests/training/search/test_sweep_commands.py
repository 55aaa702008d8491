"""The command ``seqnorm sweep``: its lines and files, failures, and sweeps that are continued."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_runs import SMALL, assert_picture
from small_series import SMALL as SMALL_SERIES
from small_series import make, write_long
from source_tree import ROOT

from seqnorm.datasets import DatasetError, FetchError
from seqnorm.training.search import main as sweeps
from seqnorm.training.search import study as studies

Command = Callable[..., None]
SWEEP = Path("runs/tiny/sweep_0")
COLUMNS = ("--data.feature_columns=[x,y]", "--trainer.max_epochs=2")
CLASSES = ("--task=series_classification", *COLUMNS, "--run.monitor=val_loss")
TARGETS = ("--task=series_regression", *COLUMNS, "--data.target_columns=[slope]")
SPACE = "--space={model.lr: {low: 1e-3, high: 0.1, log: true}, model.norm: [layer, none]}"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Make a folder with long tables of 40 series to train on and 10 to test on."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for seed, (part, count) in enumerate({"train": 40, "test": 10}.items()):
        write_long(folder / f"{part}.csv", make(count, seed))
    return folder


def sweep(run_seqnorm: Command, *arguments: str | Path) -> None:
    run_seqnorm("sweep", "tiny", *SMALL_SERIES, *CLASSES, *arguments)


def table(folder: Path = SWEEP) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", ["classification", "language", "regression"])
def test_a_sweep_of_each_task(
    task: str,
    tiny: Path,
    corpus: Path,
    lines: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Search over the shipped space, and train the best options anew."""
    options: dict[str, tuple[str | Path, ...]] = {
        "classification": (corpus, *SMALL, "--trainer.max_epochs=2"),
        "language": (lines, *SMALL, "--task=language", "--trainer.max_epochs=2"),
        "regression": (tiny, *SMALL_SERIES, *TARGETS),
    }
    small = "--data.batch_size=4" if task == "language" else "--data.noise=0.1"
    run_seqnorm("sweep", *options[task], small, "--trials=2")
    printed = capsys.readouterr().out
    monitor = "val_accuracy" if task == "classification" else "val_loss"
    (path,) = Path("runs").glob("*/sweep_0")
    assert f"the {'highest' if task == 'classification' else 'lowest'} {monitor} is" in printed
    assert printed.count("\nTrial ") == 2
    assert "Trial 0 (1 of 2) | " in printed
    assert f"seqnorm fit --config {path}/best.yaml" in printed
    assert "There is no test part" not in printed
    rows = table(path)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    for row in rows:
        found = metrics(path / row["folder"])
        assert not [name for name in found[0] if name.startswith("test_")], "it is not tested"
        values = [float(each[monitor]) for each in found]
        best = max(values) if task == "classification" else min(values)
        assert float(row["value"]) == pytest.approx(best)
        config = yaml.safe_load((path / row["folder"] / "config.yaml").read_text())
        for name in (name for name in row if name.startswith("model.")):
            value = config["model"][name.removeprefix("model.")]
            assert row[name] == ("none" if value is None else str(value))
    assert_picture(path / "sweep.png")
    assert yaml.safe_load((path / "sweep.yaml").read_text())["monitor"] == monitor
    # The options of the best trial give its values once more.
    chosen = (max if task == "classification" else min)(rows, key=lambda row: float(row["value"]))
    run_seqnorm("fit", "--config", path / "best.yaml")
    again, before = metrics(path.parent / "version_0"), metrics(path / chosen["folder"])
    assert [row[monitor] for row in again[:-1]] == [row[monitor] for row in before]
    assert any(name.startswith("test_") for name in again[-1])
    run_seqnorm("test", "--ckpt_path", path / chosen["folder"] / "checkpoints" / "best.ckpt")


def test_failed_and_pruned_trials_and_those_of_the_same_options(
    tiny: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(studies, "COMPLETE_TRIALS", 1)
    monkeypatch.setattr(studies, "FEWEST", 1)
    space = "{model.lr: [0.05, 0.0], model.norm: [layer, none], model.norm_options.gain: [0.5]}"
    options = ("--model.lr=0.05", "--trainer.max_epochs=4", "--trials=12")
    sweep(run_seqnorm, f"--space={space}", *options)
    printed = capsys.readouterr().out
    rows = table()
    assert len(rows) == 12
    states = {
        (float(row["model.lr"]), row["model.norm"]): row["state"] for row in rows if row["folder"]
    }
    assert {state for (_, norm), state in states.items() if norm == "none"} == {"failed"}
    assert states[0.05, "layer"] == "complete"
    assert states[0.0, "layer"] == "pruned", "a network that does not learn is ended"
    for row in rows:
        assert ("norm_options" in row["error"]) == (row["model.norm"] == "none")
        if row["state"] == "pruned":
            # The first validation after the warm-up of a third of 4 epochs.
            assert len(metrics(SWEEP / row["folder"])) == 2
            assert f"Trial {row['trial']} ({int(row['trial']) + 1} of 12) | pruned af" in printed
        elif row["state"] == "failed":
            assert f"Trial {row['trial']} ({int(row['trial']) + 1} of 12) | failed" in printed
    failed = [row for row in rows if row["state"] == "failed"]
    options_of = {(row["model.lr"], row["model.norm"]) for row in failed}
    assert len({row["folder"] for row in failed}) == len(options_of), "none is trained twice"
    assert printed.count("| failed with the options of trial ") == len(failed) - len(options_of) > 0
    assert len({row["error"] for row in failed}) == 1
    complete = [row for row in rows if row["state"] == "complete"]
    assert len({row["folder"] for row in complete}) == 1
    twins = printed.count(f"| the options of trial {complete[0]['trial']}, val_loss ")
    assert twins == len(complete) - 1 > 0
    assert_picture(SWEEP / "sweep.png")


def refused(run_seqnorm: Command, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("sweep", *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_errors_of_every_trial_come_before_the_first(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    expected: dict[tuple[str, ...], str] = {
        (SPACE, "--model.pooling=maxi"): "maxi",
        ("--space={model.pooling: [maxi, mini]}",): "write one of last, mean, max, attention",
        ("--space={model.norm_options.gian: [1, 2]}",): "gian",
        ("--space={model.norm: [bacth, layer]}",): "the space has a value for model.norm that no "
        "trial can be built with, 'bacth': unknown norm 'bacth' (did you mean 'batch'?)",
        ("--space={model.dropout: {low: 0.5, high: 1.5}}",): "model.dropout that no trial can be "
        "built with, 1.5: ",
        ("--space={data.noise: [0.1, -3.0]}",): "data.noise that no trial can be built with, -3.0:",
        (
            "--space={trainer.gradient_clip_algorithm: [norm, nrom]}",
        ): "no trial can be built with, 'nrom': ",
        ("--space={model.norm: [batch, rms]}", "--run.ema_decay=0.9", "--model.norm=rms"): "model."
        "norm that no trial can be built with, 'batch': run.ema_decay averages the weights",
        ("--space={run.save_every_n_steps: [-1, 5]}",): "no trial can be built with, -1: run.save_",
        ("--run.results=results.csv",): "run.results would get no row: set it to null, and give",
        ("--data.label_column=lable",): "lable",
        ("--trainer.fast_dev_run=2",): "trainer.fast_dev_run has none",
        ("--trainer.limit_val_batches=0",): "limit_val_batches must not be 0",
        ("--trainer.devices=2", "--trainer.accelerator=cpu"): "set --trainer.devices 1, and begin",
        ("--trials=0",): "--trials must be at least 1, not 0",
        ("--hours=0",): "--hours must be above 0, not 0.0",
        ("--ckpt_path=x.ckpt",): "there is no checkpoint",
    }
    for words, answer in expected.items():
        error = refused(run_seqnorm, capsys, "tiny", *SMALL_SERIES, *CLASSES, *words)
        assert answer in error, (words, error)
    assert not Path("runs").exists()


def test_a_sweep_ends_if_all_trials_fail_alike(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model can be built, but its loss is not finite."""
    spoil = ("--trainer.callbacks+=dying.Spoil", "--trainer.callbacks.rank=0")
    spoil += ("--trainer.callbacks.layer=network.recurrent", "--trainer.callbacks.what=loss")
    options = ("tiny", *SMALL_SERIES, *CLASSES, SPACE, *spoil)
    error = refused(run_seqnorm, capsys, *options)
    assert (
        "all of the first 3 trials failed alike: step 3 (epoch 0, batch 3): the loss is nan"
        in error
    )
    assert [row["state"] for row in table()] == ["failed"] * 3


@pytest.mark.parametrize("error", [DatasetError("moved"), FetchError("offline")])
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


def test_a_value_that_only_goes_together_with_others(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The given norm takes no gain, and the other one does."""
    space = "--space={model.norm: [layer, rms], model.norm_options.gain: [0.5, 1.0]}"
    sweep(run_seqnorm, space, "--model.norm=none", "--trials=1")
    assert [row["state"] for row in table()] == ["complete"]


def test_without_a_test_part(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny / "test.csv").unlink()
    sweep(run_seqnorm, SPACE, "--trials=1")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "There is no test part; --data.test_fraction 0.2 would split one off."
    sweep(run_seqnorm, SPACE, "--trials=1", "--data.test_fraction=0.2")
    assert "seqnorm test --ckpt_path" in capsys.readouterr().out


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


def test_no_trial_begins_after_the_limit(
    tiny: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(run_seqnorm, SPACE, "--trials=2", "--hours=1e-9")
    assert "0 trials: none. The table is" in capsys.readouterr().out
    assert table() == []
    run_seqnorm("sweep", f"--resume={SWEEP}", "--hours=1", "--trials=1")
    assert [row["state"] for row in table()] == ["complete"]


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
