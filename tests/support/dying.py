"""Callbacks that end one process of a run in the middle of training, leave it hanging, or spoil
what it computes."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class DieError(Exception):
    """What a process raises that dies of an error."""


class Die(Callback):
    """After the fourth step, or another.

    Args:
        rank: of the process.
        how: "kill" (as kill -9), "leave" (os._exit(0)), "raise" or "hang".
        step: how many steps were done.
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
    """At the fourth step, whenever it is run, makes what a layer gives no number any more.

    Args:
        rank: of the process.
        layer: its name in the network; its first output is what is spoilt.
        what: "loss", or "gradient" to spoil what comes back alone.
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
