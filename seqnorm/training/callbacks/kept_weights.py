"""Callbacks that decide which weights a run keeps, and when it stops."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, callbacks
from torch import Tensor


class WeightAverage(callbacks.EMAWeightAveraging):
    """Lightning's exponential moving average, in single precision if the weights are in half.

    In half precision the average would not move, because rounding removes a thousandth of a
    difference. Buffers are copied and not averaged: BatchNorm's counts are integers.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)
        self._weights: list[Tensor] = []  # the model's own, while it holds the average

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        weights = () if self._average_model is None else self._average_model.parameters()
        for weight in weights:
            if weight.dtype in (torch.float16, torch.bfloat16):
                weight.data = weight.data.float()

    def _swap_models(self, pl_module: LightningModule) -> None:
        """Give the average to the model for a validation, and the weights back afterwards.

        Lightning would take the average back from the model, rounded to the model's precision.
        """
        assert self._average_model is not None
        average = self._average_model.module
        lent: Iterable[Tensor] = self._weights or average.parameters()
        self._weights = [] if self._weights else [p.data.clone() for p in pl_module.parameters()]
        for own, other in zip(pl_module.parameters(), lent):
            own.data.copy_(other.data)
        # The average may have statistics of its own.
        for one, two in zip(pl_module.buffers(), average.buffers()):
            kept = one.data.clone()
            one.data.copy_(two.data)
            two.data.copy_(kept)


class RunEarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, which a resumed run remembers.

    A run that had stopped stays stopped, unless it is resumed with another patience. Nothing stops
    before the first validation.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, strict=False)
        self._stopped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stopped or self.wait_count >= self.patience:
            trainer.should_stop = True

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        stop, reason = super()._evaluate_stopping_criteria(current)
        self._stopped |= stop  # final, even if trainer.min_epochs delays it
        return stop, reason

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})
        self._stopped = state_dict.get("stopped", False) and state_dict["patience"] == self.patience


class RunCheckpoint(callbacks.ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose one file lies in this run's folder.

    The paths in a checkpoint are replaced. They are those of the run before it was moved or copied,
    or a stranger chose them, and the files they name are read, replaced and removed.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = str(Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}")
        scores = state_dict["best_k_models"].values()
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        mended = {name: own if state_dict[name] else "" for name in paths}
        kept = {"dirpath": self.dirpath, "best_k_models": dict(zip([own], scores))}
        super().load_state_dict({**state_dict, **mended, **kept})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Without a validation there is nothing to choose by, which is not an error.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)
