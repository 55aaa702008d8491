"""Conversion of a whole model to statistics over the batches of all processes, and back."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from ..check import warn
from ..statistics.processes import Processes
from ..statistics.running_table import RunningTable
from ..statistics.tracking import Tracking
from .counterparts import OF_BATCH, Wanted
from .exchange import check_plain, put
from .power import PowerNorm


def convert_sync_batchnorm(
    module: nn.Module, process_group: dist.ProcessGroup | None = None
) -> nn.Module:
    """Make every norm of the batch take its statistics over the batches of all processes.

    This is ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` for every norm of this library that
    averages over the batch, in a recurrence or not, with masks. torch's BatchNorm1d to 3d become
    those of this library, which compute the same, on a CPU too, with the same parameters and
    buffers; a ``torch.nn.SyncBatchNorm`` is unchanged, and so is ``PowerNorm``. (torch's function
    skips running tables and replaces this library's ``BatchNorm1d`` to ``3d`` by
    ``torch.nn.SyncBatchNorm``, without masks.)

    In training each set S then holds the rows of all processes, ``min_count`` counts them all, and
    the running statistics of every process are those of one process with the whole batch. Processes
    may have different batch sizes and lengths, or no rows, but must run the layers equally often
    and in the same order, forward and backward. Inference exchanges nothing. As in torch, gradients
    in ``DistributedDataParallel`` are those of the mean loss of all processes. Without an
    initialised ``torch.distributed``, or in a group of one process, nothing changes.

    Args:
        module: any module; it is changed in place.
        process_group: the processes that share; ``None`` for all of them.

    Returns:
        The module, or the new norm if the module itself is a norm of torch.

    Raises:
        ValueError: a norm derived from torch's cannot be replaced; the message has its path.
    """
    theirs: dict[str, nn.Module] = {
        path: norm
        for path, norm in module.named_modules()
        if isinstance(norm, OF_BATCH) and not isinstance(norm, (Tracking, nn.SyncBatchNorm))
    }
    for path, norm in theirs.items():
        check_plain(path, norm)
    home = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
    if any(isinstance(part, PowerNorm) for part in module.modules()):
        warn("processes do not share the statistics of PowerNorm")
    new = Wanted("batch").instead(theirs, {}, home)
    module = put(module, {id(theirs[path]): norm for path, norm in new.items()})
    return _share(module, Processes(process_group))


def revert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Undo ``convert_sync_batchnorm`` in place, so that each process takes its own statistics.

    Norms that were torch's stay those of this library. Returns the module.
    """
    return _share(module, None)


def _share(module: nn.Module, processes: Processes | None) -> nn.Module:
    for part in module.modules():
        if isinstance(part, (RunningTable, Tracking)):
            part.processes = processes
    return module
