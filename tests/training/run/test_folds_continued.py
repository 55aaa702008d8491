"""``fit --folds`` goes on after an interruption, and refuses other data and options."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
import torch
from small_folds import CLASSIFIER, FOLDS, assert_same_weights, results
from small_runs import CrashError
from zipped import zipped

from seqnorm.files import lock
from seqnorm.training.results.rows import read_rows
from seqnorm.training.run import folds

Command = Callable[..., None]
Crash = Callable[[Optional[int]], None]


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


def test_a_damaged_fold_is_explained_and_trained_again(
    docs: str, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm("fit", docs, "--folds=2", *CLASSIFIER, "--trainer.max_epochs=1")
    file = FOLDS / "fold_2" / "fold.json"
    whole = json.loads(file.read_text())
    predictions = (FOLDS / "predictions.csv").read_text()
    without = {key: value for key, value in whole["row"].items() if key != "test_macro_f1"}
    for damaged in (
        "",
        json.dumps(whole)[:-9],
        "[]",
        "{}",
        json.dumps({key: value for key, value in whole.items() if key != "predictions"}),
        json.dumps({**whole, "row": without}),
        json.dumps({**whole, "row": {**whole["row"], "test_accuracy": "high"}}),
        json.dumps({**whole, "row": {**whole["row"], "seconds": 1.0}}),
        json.dumps({**whole, "predictions": [*whole["predictions"], ["a"]]}),
        json.dumps({**whole, "predictions": None}),
    ):
        file.write_text(damaged)
        with pytest.raises(SystemExit) as stop:
            run_seqnorm("fit", "--folds_path", FOLDS)
        assert stop.value.code == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"{file} is damaged: delete the folder {file.parent} and go on" in said, damaged
    shutil.rmtree(file.parent)
    run_seqnorm("fit", "--folds_path", FOLDS)
    assert "fold_1, finished before" in capsys.readouterr().out
    assert (FOLDS / "predictions.csv").read_text() == predictions


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
