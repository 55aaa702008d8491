"""The progress bar of a run."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer, callbacks


class RunProgressBar(callbacks.RichProgressBar):
    """Lightning's progress bar with a line for every epoch, counted from 1."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        words = f"Epoch {current_epoch + 1}" + (f"/{last}" if last not in (None, -1) else "")
        # Descriptions of one width keep the bar from moving.
        return f"{words:{len(self.validation_description)}}"
