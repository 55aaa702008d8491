"""Callbacks that bring the start of every epoch into a state that can be repeated."""

from __future__ import annotations

import random

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SeedEachEpoch(Callback):
    """Seed Python, NumPy and torch at the start of every epoch from (seed, epoch, process).

    The dropout masks of an epoch then do not depend on earlier draws, and a run that is resumed at
    the start of an epoch draws the same numbers as an uninterrupted run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        key = f"{self.seed} {trainer.current_epoch} {trainer.global_rank}"
        seed = random.Random(key).getrandbits(32)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the global generator is the one to seed
        torch.manual_seed(seed)


class ShareBuffers(Callback):
    """Copy the buffers of the first process to all others at the start of every epoch.

    ``DistributedDataParallel`` does so before every pass except the first one after a validation.
    A resumed run starts with the buffers of the first process, which the checkpoint holds.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1 and torch.distributed.is_initialized():
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer.data, src=0)
