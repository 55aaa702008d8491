"""Remedies of BatchNorm during training: a schedule of Batch Renormalization, frozen statistics."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seqnorm.nn import freeze_statistics, renormalization_limits, set_renormalization


class RenormalizationSchedule(Callback):
    """Raise the limits of Batch Renormalization during training, as Ioffe 2017 (section 4).

    Before every batch, every norm with Batch Renormalization gets the limits of
    ``seqnorm.renormalization_limits(trainer.global_step, ...)``. A resumed training continues the
    schedule, because Lightning restores the step.

    Args:
        begin: The step up to which the norms are plain BatchNorm (r_max 1 and d_max 0).
        r_end: The step at which r_max is reached.
        d_end: The step at which d_max is reached.
        r_max: The final largest factor r.
        d_max: The final largest shift d.

    Raises:
        ValueError: The steps are not in order, a limit is out of range, or the model has no norm
            with Batch Renormalization.
    """

    def __init__(
        self,
        *,
        begin: int = 5000,
        r_end: int = 40_000,
        d_end: int = 25_000,
        r_max: float = 3.0,
        d_max: float = 5.0,
    ) -> None:
        self.options: dict[str, Any] = {
            "begin": begin,
            "r_end": r_end,
            "d_end": d_end,
            "r_max": r_max,
            "d_max": d_max,
        }
        renormalization_limits(0, **self.options)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._set(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._set(trainer, pl_module)

    def _set(self, trainer: Trainer, pl_module: LightningModule) -> None:
        set_renormalization(pl_module, *renormalization_limits(trainer.global_step, **self.options))


class FreezeStatistics(Callback):
    """Normalise by running statistics in the last epochs of training (Wu & Johnson 2021, sec. 4).

    In these epochs ``seqnorm.freeze_statistics`` holds for the model, so that training computes the
    function of inference and no example depends on the others of its batch. After the fit the norms
    learn again. A resumed training freezes them in the same epochs.

    ``ReestimateStatistics`` beside it re-estimates the statistics before each validation, but not
    in these epochs: the statistics that are frozen are those of the last validation before.

    Args:
        last_epochs: The number of epochs, of ``trainer.max_epochs``.

    Raises:
        ValueError: ``last_epochs`` is below 1 or not below ``trainer.max_epochs``, this has no
            limit, or the model has no running statistics.
    """

    def __init__(self, last_epochs: int) -> None:
        if last_epochs < 1:
            raise ValueError(f"last_epochs must be at least 1, got {last_epochs}")
        self.last_epochs = last_epochs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs
        if epochs is None or epochs < 0:
            raise ValueError(
                "FreezeStatistics counts epochs from the end, and trainer.max_epochs has no limit: "
                "set it"
            )
        # A trial by fast_dev_run has one epoch.
        if self.last_epochs >= epochs and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            raise ValueError(
                f"last_epochs={self.last_epochs} of trainer.max_epochs={epochs} would freeze "
                "statistics that were never learned: leave at least one epoch before"
            )
        freeze_statistics(pl_module, False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that is resumed inside an epoch does not start that epoch.
        self._freeze(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._freeze(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        freeze_statistics(pl_module, False)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if trainer.training:  # else on_fit_start itself may have refused the model
            freeze_statistics(pl_module, False)

    def _freeze(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            return
        assert trainer.max_epochs is not None
        first = trainer.max_epochs - self.last_epochs
        freeze_statistics(pl_module, trainer.current_epoch >= first)
