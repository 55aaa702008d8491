"""A run that is interrupted inside an epoch is resumed with the next batch, without a trace."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from resumed_runs import (
    LANGUAGE_OPTIONS,
    LANGUAGE_VARIANTS,
    OPTIONS,
    assert_same,
    last,
    outcome,
)
from resumed_runs import VARIANTS as RUN_VARIANTS
from small_runs import CrashError
from torch.utils.data import TensorDataset

from seqnorm.training.callbacks.inside_epoch import KEY, random_states, set_random_states
from seqnorm.training.callbacks.run_files import RunFiles
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO
from seqnorm.training.data.batches import Batches
from seqnorm.training.tasks.metrics import Mean

WHOLE, BROKEN = Path("runs/whole/version_0"), Path("runs/broken/version_0")
TEXTS = (*OPTIONS, "--data.batch_size=8", "--trainer.max_epochs=3")
LANGUAGE = (
    *LANGUAGE_OPTIONS,
    "--trainer.max_epochs=3",
    "--task=language",
    "--data.window=20",
)
VARIANTS = {
    **{key: value for key, value in RUN_VARIANTS.items() if key != "steps"},
    "accumulated": ("--model.norm=layer", "--trainer.accumulate_grad_batches=2"),
    "steps": ("--model.norm=layer", "--trainer.max_steps=31"),
    "validated inside": ("--model.norm=batch", "--trainer.val_check_interval=4"),
    "validated over epochs": (
        "--model.norm=batch",
        "--trainer.val_check_interval=3",
        "--trainer.check_val_every_n_epoch=null",
    ),
    "frozen": (
        "--model.norm=batch",
        "--trainer.callbacks+=seqnorm.training.FreezeStatistics",
        "--trainer.callbacks.last_epochs=1",
    ),
    "renormalised": (
        "--model.norm=batch_renorm",
        "--trainer.callbacks+=seqnorm.training.RenormalizationSchedule",
        "--trainer.callbacks.begin=2",
        "--trainer.callbacks.r_end=30",
        "--trainer.callbacks.d_end=20",
    ),
    "watched": (
        "--model.norm=batch",
        "--trainer.callbacks+=seqnorm.training.NormStatistics",
        "--trainer.callbacks.every_n_steps=2",
        "--trainer.callbacks.min_rows=0",
        "--trainer.callbacks.max_drift=100",
    ),
}


def check(
    fit: tuple[str | Path, ...],
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
    every: int = 1,
    crashes: Sequence[int] = (),
) -> None:
    """Interrupt a run inside its second and third epoch, or elsewhere, and resume it.

    It must end like a run that was neither interrupted nor saved inside an epoch.
    """
    run_seqnorm(*fit, "--run.name=whole", "--run.save_every_n_steps=null")
    steps = outcome(WHOLE)["last"]["global_step"] // 3
    assert steps > 3 * every
    fit = (*fit, "--run.name=broken", f"--run.save_every_n_steps={every}")
    for crash in crashes or (steps + 2 * every + 1, 2 * steps + 2 * every + 1):
        crash_at(crash)
        with pytest.raises(CrashError):
            run_seqnorm(*fit)
        stored = torch.load(last(BROKEN), weights_only=True)
        assert KEY in stored
        assert crash - every <= stored["global_step"] + 1 <= crash + 1
        fit = ("fit", "--ckpt_path", last(BROKEN))
    crash_at(None)
    run_seqnorm(*fit, "--run.save_every_n_steps=null")  # concerns writing only
    assert_same(outcome(BROKEN), outcome(WHOLE))


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_on_inside_an_epoch(
    variant: str,
    corpus: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
) -> None:
    options = VARIANTS[variant]
    check(("fit", "--data.corpus", corpus, *TEXTS, *options), run_seqnorm, crash_at)
    if variant == "watched":
        seen = [
            torch.load(last(run), weights_only=True)["callbacks"]["NormStatistics"]["sites"]
            for run in (WHOLE, BROKEN)
        ]
        assert_same(*seen)


def test_goes_on_twice_inside_the_first_epoch(
    corpus: Path, run_seqnorm: Callable[..., None], crash_at: Callable[[int | None], None]
) -> None:
    fit = ("fit", "--data.corpus", corpus, *TEXTS, "--model.norm=batch")
    check(fit, run_seqnorm, crash_at, crashes=(2, 6))


@pytest.mark.parametrize("variant", LANGUAGE_VARIANTS)
def test_a_language_model_goes_on_inside_an_epoch(
    variant: str,
    lines: Path,
    run_seqnorm: Callable[..., None],
    crash_at: Callable[[int | None], None],
) -> None:
    size = 7 if variant == "documents" else 2
    options = (*LANGUAGE_VARIANTS[variant], f"--data.batch_size={size}")
    check(("fit", "--data.corpus", lines, *LANGUAGE, *options), run_seqnorm, crash_at, every=2)


@pytest.fixture
def interrupted(
    corpus: Path, run_seqnorm: Callable[..., None], crash_at: Callable[[int | None], None]
) -> Path:
    """Return the last checkpoint of a run that ended inside an epoch, after 5 of its 11 batches."""
    crash_at(5)
    with pytest.raises(CrashError):
        run_seqnorm("fit", "--data.corpus", corpus, *TEXTS, "--run.save_every_n_steps=1")
    crash_at(None)
    return last(Path("runs/tiny/version_0"))


@pytest.fixture
def refused(
    interrupted: Path, run_seqnorm: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return the error of a checkpoint that is not resumed, and check that nothing is written."""

    def resume(*more: str) -> str:
        def kept() -> list[bytes]:
            names = ("checkpoints/last.ckpt", "config.yaml")
            return [(interrupted.parents[1] / name).read_bytes() for name in names]

        before = kept()
        with pytest.raises(SystemExit) as stop:
            run_seqnorm("fit", "--ckpt_path", interrupted, *more)
        assert stop.value.code == 2
        assert kept() == before
        return capsys.readouterr().err

    return resume


@pytest.mark.parametrize(
    ("option", "change"),
    [
        ("data.batch_size", "was 8, and cannot be 4"),
        ("data.noise", "was 0.05, and cannot be 5.0"),
        ("data.max_length", "was 200, and cannot be 3"),
        ("seed_everything", "was 0, and cannot be 5"),
        ("trainer.precision", "was None, and cannot be '64-true'"),
        ("trainer.accumulate_grad_batches", "was 1, and cannot be 2"),
    ],
)
def test_the_rest_of_an_epoch_is_as_its_beginning(
    option: str, change: str, refused: Callable[..., str]
) -> None:
    new = change.rpartition(" ")[2].strip("'")
    assert f"which must end with the options of its beginning: {option} {change}" in (
        refused(f"--{option}={new}")
    )


def test_as_many_processes_and_batches_go_on(
    interrupted: Path, refused: Callable[..., str]
) -> None:
    for name, value, said in (
        ("processes", [{}, {}], "with 2 processes, and is resumed with as many, not with 1"),
        ("batches", 12, "with 12 batches an epoch, and is resumed with as many, not with 11"),
    ):
        stored = torch.load(interrupted, weights_only=True)
        kept = stored[KEY][name]
        stored[KEY][name] = value
        torch.save(stored, interrupted)
        assert said in refused()
        stored[KEY][name] = kept
        torch.save(stored, interrupted)


NONSENSE: list[tuple[tuple[str | int, ...], Any]] = [
    ((), 7),
    (("batches",), "11"),
    (("options",), 3),
    (("options", "data.noise"), torch.ones(2)),
    (("processes", 0), 3),
    (("processes", 0), {}),
    (("processes", 0, "random", "python"), (3, (-1,) * 625, None)),
    (("processes", 0, "random", "numpy", "state", "pos"), 10**9),
    (("processes", 0, "random", "numpy", "state", "pos"), -5),
    (("processes", 0, "random", "numpy", "state", "key"), torch.zeros(3)),
    (("processes", 0, "random", "torch"), torch.zeros(3)),
    (("processes", 0, "module", "means"), {}),
    (("processes", 0, "module", "means", "train_loss", "total"), "x"),
    (("processes", 0, "module", "means", "train_loss", "total"), torch.tensor(torch.nan)),
    (("processes", 0, "module", "means", "train_loss", "total"), torch.zeros(1).expand(10**8)),
    (("processes", 0, "module", "means", "train_loss", "compute"), torch.tensor(1.0)),
]


def test_nonsense_is_not_gone_on_with(interrupted: Path, refused: Callable[..., str]) -> None:
    whole = interrupted.read_bytes()
    for place, value in NONSENSE:
        stored = torch.load(interrupted, weights_only=True)
        within = stored
        for key in (KEY, *place)[:-1]:
            within = within[key]
        within[(KEY, *place)[-1]] = value
        torch.save(stored, interrupted)
        assert "does not hold the state from which a run is resumed inside an epoch" in refused(), (
            place
        )
        interrupted.write_bytes(whole)


def test_a_whole_epoch_is_not_gone_on_inside_of(
    interrupted: Path, refused: Callable[..., str], run_seqnorm: Callable[..., None]
) -> None:
    held = torch.load(interrupted, weights_only=True)[KEY]
    run_seqnorm("fit", "--ckpt_path", interrupted)
    stored = torch.load(interrupted, weights_only=True)
    assert KEY not in stored
    torch.save({**stored, KEY: held}, interrupted)
    assert "does not hold the state from which a run is resumed" in refused(
        "--trainer.max_epochs=5"
    )


def test_no_gradient_is_lost(
    corpus: Path, run_seqnorm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Save after the second of two batches, or after the validation that follows it."""
    taken = []
    write = AtomicCheckpointIO.save_checkpoint

    def note(self: AtomicCheckpointIO, checkpoint: dict[str, Any], *args: Any, **kw: Any) -> None:
        if KEY in checkpoint:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            taken.append(progress["completed" if progress["ready"] % 4 == 0 else "ready"])
        write(self, checkpoint, *args, **kw)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", note)
    options = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=4")
    fit = ("fit", "--data.corpus", corpus, *TEXTS, *options, "--run.save_every_n_steps=1")
    run_seqnorm(*fit, "--trainer.max_epochs=2")
    assert taken == [2, 4, 6, 8, 10] * 2


def test_the_last_step_is_not_inside(
    corpus: Path, run_seqnorm: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is interrupted after its last step is resumed before the end of its last epoch."""
    fit = ("fit", "--data.corpus", corpus, *TEXTS, "--model.norm=layer", "--trainer.max_steps=26")
    run_seqnorm(*fit, "--run.name=whole")

    def die(self: RunFiles, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 26:
            raise CrashError
        self._add_row(trainer, trainer.current_epoch + 1, ("lr", "train_", "val_"))

    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "on_train_epoch_end", die)
        with pytest.raises(CrashError):
            run_seqnorm(*fit, "--run.name=broken", "--run.save_every_n_steps=1")
    run_seqnorm("fit", "--ckpt_path", last(BROKEN))
    assert_same(outcome(BROKEN), outcome(WHOLE))


def test_a_save_takes_at_least_a_step(
    corpus: Path, run_seqnorm: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("fit", "--data.corpus", corpus, "--run.save_every_n_steps=0")
    assert stop.value.code == 2
    assert "run.save_every_n_steps must be at least 1, or null" in capsys.readouterr().err


def test_batches_begin_where_they_were() -> None:
    loader = Batches(TensorDataset(torch.arange(10)), batch_size=3)
    drawn = torch.get_rng_state()
    whole = [batch[0].tolist() for batch in loader]
    waits = iter(loader)
    loader.skip(2)
    assert [batch[0].tolist() for batch in waits] == whole[2:]
    loader.skip(3)
    assert [batch[0].tolist() for batch in loader] == whole[3:]
    assert [batch[0].tolist() for batch in loader] == whole
    assert torch.equal(torch.get_rng_state(), drawn)


def test_random_states_are_plain_data(tmp_path: Path) -> None:
    def draw() -> list[float]:
        legacy = np.random.randn()  # noqa: NPY002  the global generator is what is restored
        return [random.gauss(0, 1), random.random(), legacy, float(torch.randn(()))]

    draw()  # a generator draws two normal numbers at once and keeps one
    cpu = torch.device("cpu")
    torch.save(random_states(cpu), tmp_path / "states")
    first = draw()
    draw()
    set_random_states(torch.load(tmp_path / "states", weights_only=True), cpu)
    assert draw() == first


def test_a_mean_is_of_examples_and_in_half_precision_too() -> None:
    mean = Mean().bfloat16()
    for value, count in ((1.0, 30_000), (4.0, 10_000), (2.0, 1)):
        mean.update(torch.tensor(value), count)
    assert float(mean.compute()) == pytest.approx(70_002 / 40_001, rel=1e-6)
