"""Callbacks that the user gives beside those of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse._typehints import resolve_class_path_by_name
from lightning.pytorch import Callback, Trainer, callbacks
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from small_runs import SMALL

from seqnorm.training.callbacks.progress_bar import RunProgressBar
from seqnorm.training.run.trainer import make_trainer

Command = Callable[..., None]
LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")
ONCE = (*SMALL, "--trainer.max_epochs=1")
ADD = "--trainer.callbacks+="
FULL = "lightning.pytorch.callbacks."


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[Callback]]:
    """Record the callbacks of every trainer."""
    found: list[list[Callback]] = []

    def keep(*args: Any, **options: Any) -> Trainer:
        made = make_trainer(*args, **options)
        found.append(list(made.callbacks))  # type: ignore[attr-defined]
        return made

    for command in ("fit", "evaluate"):
        monkeypatch.setattr(f"seqnorm.training.run.{command}.make_trainer", keep)
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
    run_seqnorm: Command,
) -> None:
    run_seqnorm(
        "fit", "--data.corpus", corpus, *ONCE, f"--trainer.enable_progress_bar={shown}", ADD + name
    )
    run_seqnorm("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2")
    for found in made:
        assert [type(bar) for bar in found if isinstance(bar, ProgressBar)] == [kind]


@pytest.mark.parametrize("shown", ["true", "false"])
def test_the_runs_own_progress_bar(
    shown: str, made: list[list[Callback]], corpus: Path, run_seqnorm: Command
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *ONCE, f"--trainer.enable_progress_bar={shown}")
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
    """No callback of this library has the name of one of Lightning's."""
    assert resolve_class_path_by_name(Callback, name).startswith(FULL)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # to an absolute one
@pytest.mark.parametrize(
    "options",
    [
        ("EarlyStopping", "monitor=val_accuracy", "mode=max"),  # as the run's own
        ("EarlyStopping", "monitor=train_loss"),
        ("LearningRateMonitor",),
        ("ModelCheckpoint", "monitor=val_accuracy", "mode=max"),
        ("ModelCheckpoint",),
    ],
)
def test_beside_the_runs_own(
    options: tuple[str, ...],
    corpus: Path,
    run_seqnorm: Command,
    made: list[list[Callback]],
) -> None:
    name, *more = options
    run_seqnorm(
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
    run_seqnorm("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2")
    run_seqnorm("test", "--ckpt_path", LAST)
