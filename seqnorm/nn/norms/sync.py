"""Statistics of one process, or of all: switched on and off in a whole model."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from ..statistics.processes import Processes
from ..statistics.running_table import RunningTable
from .batch import _BatchNorm
from .counterparts import OF_BATCH, Wanted
from .exchange import check_plain, put


def convert_sync_batchnorm(
    module: nn.Module, process_group: dist.ProcessGroup | None = None
) -> nn.Module:
    """Have every norm of the batch take its statistics over the batches of all processes.

    As ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``, for all norms of this library that
    average over the batch: in a recurrence at every time step, pooled over time, of padded
    sequences, signals, images and volumes, with masks. torch's BatchNorm1d to 3d become those of
    this library, which compute the same, on a CPU too, with the very parameters and buffers they
    had. A ``torch.nn.SyncBatchNorm`` stays as it is. (torch's own function knows nothing of running
    tables, and makes a ``torch.nn.SyncBatchNorm``, without masks, of this library's ``BatchNorm1d``
    to ``3d``, which derive from torch's.)

    In training each set S then holds the rows of all processes, ``min_count`` counts them all, and
    the running statistics are the same everywhere: those of one process with the whole batch.
    Processes may have different batch sizes and lengths, or no rows at all. Every process has to
    run the layers equally often and in the same order, forward and backward; inference exchanges
    nothing. Gradients follow torch's convention: in ``DistributedDataParallel`` they are those of
    the mean of the losses of all processes. Where ``torch.distributed`` is not initialised, or in
    a group of one, nothing changes.

    Args:
        module: any module; it is changed in place.
        process_group: the processes that share; ``None`` for all of them.

    Returns:
        The module, or, of a torch norm by itself, the new norm.

    Raises:
        ValueError: a norm derived from torch's cannot be replaced (with its path).
    """
    theirs: dict[str, nn.Module] = {
        path: norm
        for path, norm in module.named_modules()
        if isinstance(norm, OF_BATCH) and not isinstance(norm, (_BatchNorm, nn.SyncBatchNorm))
    }
    if theirs:
        for path, norm in theirs.items():
            check_plain(path, norm)
        home = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
        new = Wanted("batch").instead(theirs, {}, home)
        module = put(module, {id(theirs[path]): norm for path, norm in new.items()})
    processes = Processes(process_group)
    for part in module.modules():
        if isinstance(part, (RunningTable, _BatchNorm)):
            part.processes = processes
    return module


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Undo ``convert_sync_batchnorm``: each process takes its own statistics again.

    What were torch's norms stay those of this library. Returns the module, changed in place.
    """
    for part in module.modules():
        if isinstance(part, (RunningTable, _BatchNorm)):
            part.processes = None
    return module
