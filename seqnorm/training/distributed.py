"""Training in several processes: what Lightning is given for it."""

from __future__ import annotations

import atexit
import subprocess
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import nn

from seqnorm.nn import convert_sync_batchnorm, revert_sync_batchnorm

from .checkpoint import AtomicCheckpointIO

T = TypeVar("T")


class SyncBatchNorm(TorchSyncBatchNorm):
    """A plugin that makes ``sync_batchnorm=True`` reach the norms of this library.

    Lightning's own knows torch's norms alone, so a program of one's own gives both,
    ``Trainer(sync_batchnorm=True, plugins=[seqnorm.training.SyncBatchNorm()])``; ``train.py`` adds
    it by itself. During ``fit`` the norms of the batch are as ``seqnorm.convert_sync_batchnorm``
    makes them.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return revert_sync_batchnorm(model)


def plugins(options: Any) -> list[Any]:
    """The plugins of a trainer with these options: those given and, unless one of them does that,
    what writes checkpoints as a whole, and what ``sync_batchnorm`` needs.

    Args:
        options: arguments of ``Trainer`` by name.
    """
    given = options["plugins"] or []
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    if not any(isinstance(plugin, CheckpointIO) for plugin in found):
        found.append(AtomicCheckpointIO())
    if options["sync_batchnorm"] and not any(isinstance(plugin, LayerSync) for plugin in found):
        found.append(SyncBatchNorm())
    return found


def gathered(trainer: Trainer, own: T) -> list[T]:
    """What every process has, in their order."""
    found: list[Any] = [own]
    if trainer.world_size > 1 and dist.is_initialized():
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, own)
    return found


class EndTogether(Callback):
    """Where a run ends with an error, ends the processes that it started, should they not end.

    One that died closes its connections, at which the others fail. One that hangs does not notice
    that it is waited for no longer, nor does it react to a signal that Python would have to handle.

    Args:
        patience: seconds in which they may end by themselves, and say why.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.patience = patience

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        started = getattr(trainer.strategy.launcher, "procs", [])
        if not started:
            return
        # At the exit, when the error was printed.
        atexit.register(end, list(started), self.patience)
        if not isinstance(exception, KeyboardInterrupt):  # at which Lightning ends them by itself
            # It watches them and kills this process once one has failed, which an error of all
            # makes each of them do, before this one has said why.
            started.clear()


def end(processes: Sequence[subprocess.Popen[Any]], patience: float) -> None:
    """Wait for the processes to end, and kill those that have not after ``patience`` seconds."""
    last = time.monotonic() + patience
    for process in processes:
        try:
            process.wait(max(0.0, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
