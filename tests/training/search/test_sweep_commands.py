"""The command ``seqnorm sweep``: its lines and files, failed trials, and wrong options."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from small_runs import SMALL, assert_picture
from small_series import SMALL as SMALL_SERIES
from small_sweeps import CLASSES, COLUMNS, SPACE, SWEEP, Command, refused, sweep, table

from seqnorm.training.search import study as studies

TARGETS = ("--task=series_regression", *COLUMNS, "--data.target_columns=[slope]")


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


def test_a_sweep_needs_a_validation_part(
    corpus: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(corpus), *SMALL, SPACE, "--data.validation=nothing")
    error = refused(run_seqnorm, capsys, *words)
    assert "a sweep compares validations, and data.validation nothing has none" in error


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
