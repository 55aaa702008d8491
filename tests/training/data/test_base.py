"""A run is not resumed with other data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from small_runs import SMALL, CrashError

from seqnorm.training import LanguageData, TextClassification, TextData

Command = Callable[..., None]
ONCE = (*SMALL, "--trainer.max_epochs=1")


@pytest.fixture
def own(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "own"))


def refused(run_seqnorm: Command, capsys: pytest.CaptureFixture[str], last: Path) -> str:
    before = last.read_bytes()
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", "--ckpt_path", last, "--trainer.max_epochs=2")
    assert stop.value.code == 2
    assert last.read_bytes() == before
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    return told


def exchanged(text: str) -> str:
    """Exchange the labels of the same texts."""
    return text.replace(",grain", ",x").replace(",sport", ",grain").replace(",x", ",sport")


def reordered(text: str) -> str:
    header, *rows = text.splitlines()
    return "\n".join([header, *reversed(rows)]) + "\n"


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("train", exchanged, "order in the train, validation parts differ"),
        ("train", reordered, "order in the train, validation parts differ"),
        ("test", exchanged, "order in the test part differ"),
        ("test", lambda text: text.rsplit("\n", 2)[0] + "\n", "order in the test part differ"),
        (
            "test",
            lambda text: text.replace(" test1,", " train1,"),
            "order in the test part differ",
        ),
    ],
)
def test_data_that_changed(
    part: str,
    change: Callable[[str], str],
    named: str,
    own: Path,
    run_seqnorm: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm("fit", "--data.corpus", own, *ONCE)
    last = Path("runs/own/version_0/checkpoints/last.ckpt")
    before = (own / f"{part}.csv").read_text()
    changed = change(before)
    assert changed != before
    (own / f"{part}.csv").write_text(changed)
    told = refused(run_seqnorm, capsys, last)
    assert told.startswith(f"error: {last}: the run cannot be resumed, because the data")
    assert named in told
    # A test accepts other data, and the original data resume the run.
    run_seqnorm("test", "--ckpt_path", last)
    run_seqnorm("validate", "--ckpt_path", last)
    (own / f"{part}.csv").write_text(before)
    run_seqnorm("fit", "--ckpt_path", last, "--trainer.max_epochs=2")


def test_data_that_were_moved(own: Path, run_seqnorm: Command) -> None:
    """Data may move, if they are the same."""
    run_seqnorm("fit", "--data.corpus", own, *ONCE)
    own.rename(own.with_name("moved"))
    last = Path("runs/own/version_0/checkpoints/last.ckpt")
    run_seqnorm("fit", "--ckpt_path", last, "--data.corpus=moved", "--trainer.max_epochs=2")
    assert torch.load(last, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("inside", [False, True])
def test_lines_that_changed(
    inside: bool,
    lines: Path,
    tmp_path: Path,
    run_seqnorm: Command,
    crash_at: Callable[[int | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Refuse as many tokens of the same vocabulary, at the end of an epoch and inside it."""
    own = Path(shutil.copytree(lines, tmp_path / "own"))
    small = [*ONCE, "--task=language", "--data.window=5", "--data.batch_size=4"]
    small.append("--run.save_every_n_steps=2")
    if inside:
        crash_at(5)
        with pytest.raises(CrashError):
            run_seqnorm("fit", "--data.corpus", own, *small)
        crash_at(None)
    else:
        run_seqnorm("fit", "--data.corpus", own, *small)
    last = Path("runs/own/version_0/checkpoints/last.ckpt")
    before = (own / "train.txt").read_text().splitlines()
    (own / "train.txt").write_text("\n".join(reversed(before)) + "\n")
    assert "order in the train part differ" in refused(run_seqnorm, capsys, last)
    (own / "train.txt").write_text("\n".join(before) + "\n")
    run_seqnorm("fit", "--ckpt_path", last)


@pytest.mark.parametrize("state", [None, {}, {"parts": 3}])
def test_checkpoints_that_do_not_say(state: object, own: Path, run_seqnorm: Command) -> None:
    run_seqnorm("fit", "--data.corpus", own, *ONCE)
    last = Path("runs/own/version_0/checkpoints/last.ckpt")
    stored = torch.load(last, weights_only=True)
    stored.pop("TextData")
    if state is not None:
        stored["TextData"] = state
    torch.save(stored, last)
    (own / "test.csv").write_text(exchanged((own / "test.csv").read_text()))
    run_seqnorm("fit", "--ckpt_path", last, "--trainer.max_epochs=2")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_trainer_of_ones_own(own: Path, tmp_path: Path) -> None:
    def trainer(epochs: int) -> Trainer:
        return Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )

    def model(data: TextData) -> TextClassification:
        return TextClassification(data.tokenizer_json, data.classes, hidden_size=4)

    data = TextData(str(own))
    first = trainer(1)
    first.fit(model(data), datamodule=data)
    first.save_checkpoint(tmp_path / "own.ckpt")
    (own / "test.csv").write_text(exchanged((own / "test.csv").read_text()))
    other = TextData(str(own))
    with pytest.raises(ValueError, match=r"own.ckpt: the run cannot be resumed.* in the test part"):
        trainer(2).fit(model(other), datamodule=other, ckpt_path=tmp_path / "own.ckpt")
    tested = TextData(str(own))
    trainer(2).test(model(tested), datamodule=tested, ckpt_path=tmp_path / "own.ckpt")


def test_digests_tell_parts_and_texts_apart(tmp_path: Path) -> None:
    def digests(*texts: str) -> dict[str, str]:
        (tmp_path / "train.txt").write_text("\n".join(texts))
        return LanguageData(str(tmp_path), validation_fraction=0.5).digests

    one = digests("a", "b", "c", "d")
    assert one == digests("a", "b", "c", "d")
    assert set(one) == {"train", "validation"}
    assert len({*one.values(), *digests("ab", "", "c", "d").values()}) == 3
    assert digests("c", "d", "a", "b") == {"train": one["validation"], "validation": one["train"]}
