"""Callbacks of one's own beside those of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse._typehints import resolve_class_path_by_name
from lightning.pytorch import Callback, Trainer, callbacks
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar

from seqnorm.training.callbacks import RunProgressBar
from seqnorm.training.cli import TextCLI

from .conftest import SMALL

Command = Callable[..., None]
LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")
ONCE = (*SMALL, "--trainer.max_epochs=1")
ADD = "--trainer.callbacks+="
FULL = "lightning.pytorch.callbacks."


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[Callback]]:
    """The callbacks of every trainer that is made."""
    found: list[list[Callback]] = []
    make = TextCLI.instantiate_trainer

    def keep(self: TextCLI, **options: Any) -> Trainer:
        trainer = make(self, **options)
        found.append(list(trainer.callbacks))  # type: ignore[attr-defined]
        return trainer

    monkeypatch.setattr(TextCLI, "instantiate_trainer", keep)
    return found


@pytest.mark.parametrize("shown", ["true", "false"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TQDMProgressBar", TQDMProgressBar),
        ("RichProgressBar", RichProgressBar),
        (f"{FULL}TQDMProgressBar", TQDMProgressBar),
        (f"{FULL}RichProgressBar", RichProgressBar),
    ],
)
def test_another_progress_bar(
    name: str,
    kind: type[Callback],
    shown: str,
    made: list[list[Callback]],
    corpus: Path,
    train_py: Command,
) -> None:
    train_py(
        "fit", "--data.corpus", corpus, *ONCE, f"--trainer.enable_progress_bar={shown}", ADD + name
    )
    train_py("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2")
    for found in made:
        assert [type(bar) for bar in found if isinstance(bar, ProgressBar)] == [kind]


@pytest.mark.parametrize("shown", ["true", "false"])
def test_the_runs_own_progress_bar(
    shown: str, made: list[list[Callback]], corpus: Path, train_py: Command
) -> None:
    train_py("fit", "--data.corpus", corpus, *ONCE, f"--trainer.enable_progress_bar={shown}")
    bars = [type(bar) for bar in made[0] if isinstance(bar, ProgressBar)]
    assert bars == [RunProgressBar] * (shown == "true")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, kind in vars(callbacks).items()
        if inspect.isclass(kind) and issubclass(kind, Callback) and kind is not Callback
    ],
)
def test_short_names_are_lightnings(name: str) -> None:
    """Ours have names of their own."""
    assert resolve_class_path_by_name(Callback, name).startswith(FULL)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # to an absolute one
@pytest.mark.parametrize(
    ("options", "resumes"),
    [
        (("EarlyStopping", "monitor=val_accuracy", "mode=max"), True),  # as the run's own
        (("EarlyStopping", "monitor=train_loss"), True),
        (("LearningRateMonitor",), True),
        (("ModelCheckpoint", "monitor=val_accuracy", "mode=max"), False),
        (("ModelCheckpoint",), False),
    ],
)
def test_beside_the_runs_own(
    options: tuple[str, ...],
    resumes: bool,
    corpus: Path,
    train_py: Command,
    made: list[list[Callback]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, *more = options
    train_py(
        "fit",
        "--data.corpus",
        corpus,
        *ONCE,
        ADD + name,
        *(f"--trainer.callbacks.{o}" for o in more),
    )
    assert getattr(callbacks, name) in [type(callback) for callback in made[0]]
    config = yaml.safe_load(LAST.parents[1].joinpath("config.yaml").read_text())
    (stored,) = config["trainer"]["callbacks"]
    assert stored["class_path"] == FULL + name
    if not resumes:  # its state names files that it would remove, so it needs a word of trust
        monkeypatch.setenv("SEQNORM_ALLOW_CLASSES", FULL + name)
    train_py("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2")
    train_py("test", "--ckpt_path", LAST)


def test_states_under_their_names_of_before(corpus: Path, train_py: Command) -> None:
    """A checkpoint in which two of the run's callbacks have the names of Lightning's."""
    train_py("fit", "--data.corpus", corpus, *ONCE, "--run.patience=1", "--trainer.max_epochs=2")
    stored = torch.load(LAST, weights_only=True)
    states = stored["callbacks"]
    named = [key for key in states if key.startswith(("RunCheckpoint{", "RunEarlyStopping{"))]
    assert len(named) == 3
    for key in named:
        was = key.replace("RunCheckpoint", "ModelCheckpoint").replace("RunEarly", "Early")
        states[was] = states.pop(key)
        if "RunEarly" in key:
            states[was] |= {"stopped": True, "patience": 1}
    torch.save(stored, LAST)
    train_py("fit", "--ckpt_path", LAST, "--trainer.max_epochs=9")
    after = torch.load(LAST, weights_only=True)
    assert after["epoch"] == stored["epoch"], "it had been stopped, and remembers it"
