"""A callback that ends a run whose validation is worse than that of earlier runs."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer


class EndWorse(Callback):
    """Report the monitored quantity after each validation, and end the run if it is hopeless.

    The run ends as by early stopping, so that its files are written.

    Args:
        monitor: The quantity.
        report: Takes the number of the validation, from 1, and the value, and returns true to end
            the run.
        warmup: The part of the training steps before which the run is not ended.

    Attributes:
        ended: True if the callback has ended the run.
    """

    def __init__(self, monitor: str, report: Callable[[int, float], bool], warmup: float) -> None:
        self.monitor = monitor
        self.report = report
        self.warmup = warmup
        self.ended = False
        self._validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self._validations += 1
        worse = self.report(self._validations, float(trainer.callback_metrics[self.monitor]))
        steps = trainer.estimated_stepping_batches
        if worse and self.warmup * steps <= trainer.global_step < steps:
            self.ended = True
            trainer.should_stop = True
