"""Other statistics for trained BatchNorm layers: of the whole population, or of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .check import choose
from .tables import ESTIMATES, RunningTable

Batch = TypeVar("Batch")


@torch.no_grad()
def reestimate_statistics(
    model: nn.Module,
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], object] | None = None,
    *,
    estimate: str = "population",
) -> int:
    """Replace every running table of ``model`` by statistics of all of ``batches``.

    Running averages follow the weights with a lag and rest on the last batches only; inference with
    statistics of the whole training set, as Cooijmans et al. 2017 (sec. 3) report it, is what this
    gives. BatchNorm layers normalise by the batch during the pass, everything else (dropout,
    zoneout) is in inference mode; the mode of every module is restored. Tables are those of
    recurrent layers and of ``BatchNorm``; ``BatchNorm1d`` to ``3d``, torch's too, keep the
    statistics that they have (``torch.optim.swa_utils.update_bn`` takes those anew).

    Args:
        model: any module with normalised layers in it.
        batches: an iterable, gone through once; a training loader, say.
        forward: ``forward(model, batch)`` runs the model; ``model(batch)`` if None.
        estimate: "population" for the moments of all rows as one batch, "average" for the
            row-weighted average of the batches' means and variances.

    Returns:
        The number of batches seen.

    Raises:
        ValueError: there is nothing to estimate, or no batch; the tables are then as they were.
    """
    choose("estimate", estimate, ESTIMATES)
    tables = _tables(model)
    if not tables:
        others = any(
            isinstance(m, _BatchNorm) and m.running_mean is not None for m in model.modules()
        )
        raise ValueError(
            "this model has no running tables, only norms that keep statistics as torch's do: take "
            "those anew by torch.optim.swa_utils.update_bn(batches, model)"
            if others
            else "this model has no running statistics: no norm in it averages over the batch"
        )
    seen = 0
    with _normalising_by_the_batch(model), ExitStack() as stack:
        for table in tables:
            stack.enter_context(table.estimating(estimate))
        for batch in batches:
            if forward is None:
                model(batch)
            else:
                forward(model, batch)
            seen += 1
        if seen == 0:
            raise ValueError("no batches: an empty iterable, or a generator already used up")
    return seen


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Within, BatchNorm layers normalise by the batch as in training, and nothing is changed by it.

    Everything else (dropout, zoneout) is in inference mode, and running tables take nothing in, so
    that what a model answers by the statistics of a batch can be compared with what it answers by
    its running statistics, weights and all else being equal. A step with fewer than ``min_count``
    rows, or beyond the table, is read from the table, as in training. Norms of images and torch's
    own (``torch.nn.BatchNorm1d`` to ``3d``) take part. At the end the mode of every module is as
    before. A model without running statistics is simply in inference mode.
    """
    with _normalising_by_the_batch(model), ExitStack() as stack:
        for table in _tables(model):
            stack.enter_context(table.held())
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                stack.callback(setattr, module, "track_running_stats", module.track_running_stats)
                module.training, module.track_running_stats = True, False
        yield


def _tables(model: nn.Module) -> list[RunningTable]:
    return [module for module in model.modules() if isinstance(module, RunningTable)]


@contextmanager
def _normalising_by_the_batch(model: nn.Module) -> Iterator[None]:
    """Norms with tables in training mode, everything else in inference mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modes:
        if any(isinstance(child, RunningTable) for child in module.children()):
            module.training = True
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
