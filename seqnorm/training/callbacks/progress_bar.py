"""The progress bar of a run."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer, callbacks


class RunProgressBar(callbacks.RichProgressBar):
    """Lightning's progress bar, with a line for every epoch and without the number of the run."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
