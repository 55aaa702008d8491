"""The callback that keeps the predictions of a test."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class KeepPredictions(Callback):
    """Keep the predictions of a test in a single process.

    Attributes:
        found: The prediction of each test example, (C,) logits or (K,) targets, by its index
            in the test part.
    """

    def __init__(self) -> None:
        self.found: dict[int, Tensor] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.found.update(zip(batch.indices.tolist(), outputs.cpu()))
