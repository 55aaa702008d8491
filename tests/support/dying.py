"""Callbacks that end one process of a run, let it hang, or make it compute NaN."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class DieError(Exception):
    """The error that ends a process."""


class Die(Callback):
    """End or stop a process after the fourth step, or another one.

    Args:
        rank: The process.
        how: "kill" (as kill -9), "leave" (os._exit(0)), "raise" or "hang".
        step: The number of steps.
    """

    def __init__(self, rank: int, how: str, step: int = 4) -> None:
        self.rank = rank
        self.how = how
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_rank != self.rank or trainer.global_step != self.step:
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "leave":
            os._exit(0)
        if self.how == "raise":
            raise DieError
        time.sleep(600)


class Spoil(Callback):
    """Make the output of a layer NaN whenever the fourth step is run.

    Args:
        rank: The process.
        layer: The name of the layer; its first output becomes NaN.
        what: "loss", or "gradient" for NaN in the backward pass only.
    """

    def __init__(self, rank: int, layer: str, what: str) -> None:
        self.rank = rank
        self.layer = layer
        self.what = what

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if trainer.global_rank != self.rank or trainer.global_step != 3 or not module.training:
                return None
            first, *others = output
            if self.what == "loss":
                return first * torch.nan, *others
            first = first * 1.0
            if first.requires_grad:
                first.register_hook(lambda grad: grad * torch.nan)
            return first, *others

        pl_module.get_submodule(self.layer).register_forward_hook(hook)
