"""Short runs end without an error, with the state that they reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import SMALL

from seqnorm.training import TextClassification

Command = Callable[..., None]
RUN = Path("runs/tiny/version_0")
WITHOUT_VALIDATION = "without a validation, so no epoch is the best: what is shown is the last"
TESTED = "test: accuracy "


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.limit_val_batches=0",),
        ("--trainer.max_steps=2",),
        ("--trainer.max_epochs=0",),
        ("--trainer.max_steps=0",),
        ("--trainer.limit_train_batches=0",),
        ("--trainer.max_time=00:00:00:00",),
        ("--trainer.check_val_every_n_epoch=9",),
        ("--trainer.limit_val_batches=0", "--run.ema_decay=0.9"),
        ("--trainer.limit_val_batches=0", "--run.monitor=val_loss", "--run.patience=1"),
    ],
)
def test_without_a_validation(
    options: tuple[str, ...],
    corpus: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2", *options)
    assert WITHOUT_VALIDATION in caplog.text
    assert TESTED in capsys.readouterr().out
    assert (RUN / "learning_curve.png").exists()
    assert (RUN / "confusion_matrix.png").exists()
    assert not (RUN / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--trainer.limit_train_batches=2",),
        ("--trainer.limit_test_batches=1",),
        ("--trainer.limit_val_batches=1",),
        ("--trainer.overfit_batches=1",),
        ("--trainer.num_sanity_val_steps=0",),
        ("--trainer.num_sanity_val_steps=-1",),
        ("--trainer.max_epochs=1",),
        ("--trainer.val_check_interval=1", "--trainer.max_steps=2"),
        ("--trainer.accumulate_grad_batches=100",),
    ],
)
def test_with_less_of_all(
    options: tuple[str, ...],
    corpus: Path,
    run_seqnorm: Command,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=2", *options)
    assert TESTED in capsys.readouterr().out
    assert WITHOUT_VALIDATION not in caplog.text
    assert (RUN / "checkpoints" / "best.ckpt").exists()


def test_what_is_shown_is_the_last_state(
    corpus: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--trainer.limit_val_batches=0", "--trainer.max_epochs=4", "--run.ema_decay=0.5")
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, *options, "--model.lr=0.1")
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if TESTED in line]
    run_seqnorm("test", "--ckpt_path", RUN / "checkpoints" / "last.ckpt")
    assert shown in capsys.readouterr().out


def test_statistics_are_taken_anew_at_the_end(corpus: Path, run_seqnorm: Command) -> None:
    """Without a validation, statistics are re-estimated at the end of training."""
    seen: list[int] = []
    estimate = TextClassification.on_test_start

    def look(self: TextClassification) -> None:
        counts = [b for name, b in self.named_buffers() if name.endswith("count")]
        seen.append(int(max(count.max() for count in counts)))
        estimate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextClassification, "on_test_start", look)
        for more in ((), ("--run.reestimate=true",)):
            run_seqnorm(
                "fit", "--data.corpus", corpus, *SMALL, "--model.norm=batch", *more,
                "--trainer.max_epochs=3", "--trainer.limit_val_batches=0",
            )  # fmt: skip
    assert seen == [3 * 81, 81]  # three epochs, and one pass over all documents


@pytest.mark.parametrize("share", ["0", "0.0001"])
def test_nothing_to_test_on(
    share: str, corpus: Path, run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--trainer.max_epochs=1", f"--trainer.limit_test_batches={share}")
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, *options, "--run.results=r.csv")
    assert "limit_test_batches" in caplog.text
    assert "The run is in" in caplog.text
    assert not Path("r.csv").exists()
    assert not (RUN / "confusion_matrix.png").exists()


@pytest.mark.parametrize("command", ["test", "validate"])
def test_nothing_to_evaluate(
    command: str, corpus: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=1")
    limit = f"trainer.limit_{'test' if command == 'test' else 'val'}_batches"
    with pytest.raises(SystemExit) as stop:
        run_seqnorm(command, f"--ckpt_path={RUN}/checkpoints/best.ckpt", f"--{limit}=0")
    assert stop.value.code == 2
    assert f"there is nothing to show: {limit} is 0" in capsys.readouterr().err


def test_no_validation_and_no_test_part(
    corpus: Path, run_seqnorm: Command, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--trainer.max_epochs=1", "--trainer.limit_val_batches=0")
    run_seqnorm("fit", "--data.corpus", corpus / "train.csv", *SMALL, *options)
    assert "The run is in" in caplog.text


def test_of_a_language_model(
    lines: Path, run_seqnorm: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--task=language", "--data.window=5", "--trainer.max_epochs=1")
    run_seqnorm(
        "fit", "--data.corpus", lines, *SMALL, *options, "--trainer.limit_val_batches=0",
        "--run.results=r.csv",
    )  # fmt: skip
    assert "test: perplexity" in capsys.readouterr().out
    assert ",nan," in Path("r.csv").read_text()


@pytest.mark.parametrize("how", ["true", "3"])
def test_a_fast_run_leaves_nothing(how: str, corpus: Path, run_seqnorm: Command) -> None:
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, f"--trainer.fast_dev_run={how}")
    assert not Path("runs").exists()


def test_going_on_from_a_short_run(corpus: Path, run_seqnorm: Command) -> None:
    short = ("--trainer.limit_val_batches=0", "--trainer.max_epochs=1")
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, *short)
    last = RUN / "checkpoints" / "last.ckpt"
    run_seqnorm(
        "fit", "--ckpt_path", last, "--trainer.limit_val_batches=1.0", "--trainer.max_epochs=2"
    )
    assert torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
