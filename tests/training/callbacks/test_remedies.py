"""The schedule of Batch Renormalization, and statistics frozen in the last epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

import seqnorm
from seqnorm.nn.statistics.freezing import any_frozen
from seqnorm.training import FreezeStatistics, ReestimateStatistics, RenormalizationSchedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
BATCHES = 3


class Frames(LightningModule):
    """A user's own module, whose batches are frames (B, T, 2)."""

    def __init__(self, norm: str = "batch_renorm") -> None:
        super().__init__()
        self.lstm = seqnorm.LSTM(2, 3, batch_first=True, norm=norm)
        self.seen: list[tuple[int, list[float], bool, Tensor]] = []

    def training_step(self, batch: Tensor) -> Tensor:
        norm = self.lstm.norm_hh_l0
        limits = [] if norm.renormalization is None else norm.renormalization.limits.tolist()
        self.seen.append((self.global_step, limits, norm.frozen, norm.table.running_mean.clone()))
        loss: Tensor = self.lstm(batch)[0].square().mean()
        return loss

    def validation_step(self, batch: Tensor) -> None:
        self.lstm(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.5)


def fit(
    model: LightningModule, path: Path, *found: Callback, resumed: str | None = None, **options: Any
) -> Trainer:
    loader = DataLoader(torch.randn(8 * BATCHES, 5, 2), batch_size=8)  # type: ignore[arg-type]  # a tensor has items
    trainer = Trainer(
        **({"max_epochs": 4, "enable_checkpointing": False} | options),
        callbacks=list(found),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=path,
    )
    trainer.fit(model, loader, loader, ckpt_path=resumed)
    return trainer


def test_the_schedule(tmp_path: Path) -> None:
    model, options = Frames(), {"begin": 2, "r_end": 6, "d_end": 8, "r_max": 3.0, "d_max": 1.5}
    fit(model, tmp_path, RenormalizationSchedule(**options))  # type: ignore[arg-type]  # by name
    assert [step for step, *_ in model.seen] == list(range(12))
    for step, limits, *_ in model.seen:
        assert limits == list(seqnorm.renormalization_limits(step, **options))  # type: ignore[arg-type]
    assert model.seen[0][1] == [1.0, 0.0]
    assert model.seen[-1][1] == [3.0, 1.5]


def test_a_resumed_schedule_goes_on(tmp_path: Path) -> None:
    model = Frames()
    schedule: Any = {"begin": 0, "r_end": 12, "d_end": 12}
    trainer = fit(model, tmp_path, RenormalizationSchedule(**schedule), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    other = Frames()
    saved = str(tmp_path / "saved.ckpt")
    fit(other, tmp_path, RenormalizationSchedule(**schedule), resumed=saved)
    assert other.seen[0][:2] == (6, [2.0, 2.5])
    assert len(other.seen) == 6


def test_a_schedule_needs_norms_and_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no norm in Frames has Batch Renormalization"):
        fit(Frames("batch"), tmp_path, RenormalizationSchedule())
    with pytest.raises(ValueError, match="0 <= begin <= r_end"):
        RenormalizationSchedule(begin=10, r_end=5)


def frozen_at(model: Frames) -> list[bool]:
    """Return for each epoch whether the statistics were frozen in all of its steps."""
    flags = [frozen for _, _, frozen, _ in model.seen]
    epochs = [flags[k : k + BATCHES] for k in range(0, len(flags), BATCHES)]
    assert all(len(set(epoch)) == 1 for epoch in epochs)
    return [epoch[0] for epoch in epochs]


@pytest.mark.parametrize("norm", ["batch", "batch_renorm"])
@pytest.mark.parametrize("last_epochs", [1, 3])
def test_the_last_epochs(last_epochs: int, norm: str, tmp_path: Path) -> None:
    model = Frames(norm)
    fit(model, tmp_path, FreezeStatistics(last_epochs))
    assert frozen_at(model) == [False] * (4 - last_epochs) + [True] * last_epochs
    means = [mean for *_, mean in model.seen]
    first = BATCHES * (4 - last_epochs)
    for step in range(1, len(means)):
        assert torch.equal(means[step], means[step - 1]) == (step > first), step
    assert torch.equal(model.lstm.norm_hh_l0.table.running_mean, means[-1])
    assert not any_frozen(model), "after the fit the norms learn again"


def test_a_resumed_run_freezes_in_the_same_epochs(tmp_path: Path) -> None:
    model = Frames("batch")
    trainer = fit(model, tmp_path, FreezeStatistics(1), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    other = Frames("batch")
    fit(other, tmp_path, FreezeStatistics(1), resumed=str(tmp_path / "saved.ckpt"))
    assert frozen_at(model) == [False, True]
    assert frozen_at(other) == [False, True]


def test_statistics_are_estimated_before_they_are_frozen(tmp_path: Path) -> None:
    """The last estimate is of the validation before the frozen epochs."""
    model = Frames("batch")
    again = ReestimateStatistics(lambda m, batch: m.lstm(batch))  # type: ignore[union-attr,operator]
    fit(model, tmp_path, again, FreezeStatistics(2))
    assert frozen_at(model) == [False, False, True, True]
    table = model.lstm.norm_hh_l0.table
    assert int(table.count[0]) == 8 * BATCHES, "the rows of one estimate"
    assert torch.equal(table.running_mean, model.seen[2 * BATCHES][3])
    assert not torch.equal(table.running_mean, model.seen[2 * BATCHES - 1][3])


def test_an_interrupted_fit_leaves_no_frozen_norm(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.current_epoch == 3:
                raise RuntimeError("stopped")

    model = Frames("batch")
    with pytest.raises(RuntimeError, match="stopped"):
        fit(model, tmp_path, FreezeStatistics(1), Stop())
    assert frozen_at(model)[:3] == [False] * 3
    assert not any_frozen(model)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="last_epochs must be at least 1, got 0"):
        FreezeStatistics(0)
    with pytest.raises(ValueError, match=r"last_epochs=4 of trainer\.max_epochs=4 would freeze"):
        fit(Frames("batch"), tmp_path, FreezeStatistics(4))
    with pytest.raises(ValueError, match=r"trainer\.max_epochs has no limit"):
        fit(Frames("batch"), tmp_path, FreezeStatistics(1), max_epochs=-1, max_steps=2)
    with pytest.raises(ValueError, match="Frames has no running statistics to freeze"):
        fit(Frames("layer"), tmp_path, FreezeStatistics(1))
    trial = Frames("batch")
    fit(trial, tmp_path, FreezeStatistics(3), fast_dev_run=True)
    assert [frozen for _, _, frozen, _ in trial.seen] == [False]
