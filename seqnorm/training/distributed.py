"""Training in several processes."""

from __future__ import annotations

import atexit
import subprocess
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from seqnorm.nn import convert_sync_batchnorm, revert_sync_batchnorm

T = TypeVar("T")


class SyncBatchNorm(TorchSyncBatchNorm):
    """A plugin that applies Lightning's ``sync_batchnorm=True`` to the norms of this library.

    Lightning's own plugin knows torch's norms only. Give both in your own program:
    ``Trainer(sync_batchnorm=True, plugins=[seqnorm.training.SyncBatchNorm()])``; ``seqnorm fit``
    adds the plugin by itself. During ``fit`` the norms of the batch are converted by
    ``seqnorm.convert_sync_batchnorm``.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return revert_sync_batchnorm(model)


def gathered(trainer: Trainer, own: T) -> list[T]:
    """Return the values of all processes, in the order of their ranks."""
    found: list[Any] = [own]
    if trainer.world_size > 1 and dist.is_initialized():
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, own)
    return found


class EndTogether(Callback):
    """End the processes that a run started if the run ends with an error.

    A process that died closes its connections, and the others then fail by themselves. A process
    that hangs notices nothing, and does not react to a signal that Python would have to handle.

    Args:
        patience: The seconds that the processes have to end by themselves and to report their
            errors.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.patience = patience

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        started = getattr(trainer.strategy.launcher, "procs", [])
        if not started:
            return
        # At exit the error has been printed.
        atexit.register(end, list(started), self.patience)
        if not isinstance(exception, KeyboardInterrupt):  # Lightning ends them itself then
            # Lightning watches the processes and kills this one as soon as one of them has failed.
            # An error in all of them would do that before this one has reported it.
            started.clear()


def end(processes: Sequence[subprocess.Popen[Any]], patience: float) -> None:
    """Wait for the processes to end, and kill those that have not after ``patience`` seconds."""
    last = time.monotonic() + patience
    for process in processes:
        try:
            process.wait(max(0.0, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
