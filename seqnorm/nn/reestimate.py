"""Other statistics for trained BatchNorm layers: of the whole population, or of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .check import choose
from .masks import position_mask
from .processes import sharing, union
from .statistics import Moments, merge, moments, moved, unbiased
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
    """Replace all running statistics in ``model`` by statistics of all of ``batches``.

    Running averages follow the weights with a lag and rest on the last batches only; inference with
    statistics of the whole training set, as Cooijmans et al. 2017 (sec. 3) report it, is what this
    gives. BatchNorm layers normalise by the batch during the pass, everything else (dropout,
    zoneout) is in inference mode; the mode of every module is restored. Norms of images and torch's
    own (``torch.nn.BatchNorm1d`` to ``3d``) take part; their ``num_batches_tracked`` becomes the
    number of times they were called. After ``convert_sync_batchnorm`` the statistics are those of
    the batches of all processes, each of which has to give equally many; those of a
    ``torch.nn.SyncBatchNorm`` are of its own process's.

    Args:
        model: any module with normalised layers in it.
        batches: an iterable, gone through once; a training loader, say.
        forward: ``forward(model, batch)`` runs the model; ``model(batch)`` if None.
        estimate: "population" for the moments of all rows as one batch, "average" for the
            row-weighted average of the batches' means and variances.

    Returns:
        The number of batches seen.

    Raises:
        ValueError: there is nothing to estimate, or no batch; all statistics are then as they were.
    """
    choose("estimate", estimate, ESTIMATES)
    tables, others = _tables(model), _others(model)
    if not tables and not others:
        raise ValueError(
            "this model has no running statistics: no norm in it averages over the batch"
        )
    seen = 0
    with _by_the_batch(model), ExitStack() as stack:
        for table in tables:
            stack.enter_context(table.estimating(estimate))
        for norm in others:
            stack.enter_context(_estimating(norm, estimate))
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
    with _by_the_batch(model), ExitStack() as stack:
        for table in _tables(model):
            stack.enter_context(table.held())
        yield


@contextmanager
def _by_the_batch(model: nn.Module) -> Iterator[None]:
    """Norms over the batch in training mode, all else in inference mode.

    Norms that keep running statistics as torch's do keep them as they are.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with ExitStack() as stack:
        for module, training in modes.items():
            stack.callback(setattr, module, "training", training)
            if any(isinstance(child, RunningTable) for child in module.children()):
                module.training = True
            if isinstance(module, _BatchNorm):
                stack.callback(setattr, module, "track_running_stats", module.track_running_stats)
                module.training, module.track_running_stats = True, False
        yield


def _tables(model: nn.Module) -> list[RunningTable]:
    return [module for module in model.modules() if isinstance(module, RunningTable)]


def _others(model: nn.Module) -> list[_BatchNorm]:
    """Norms that keep running statistics as torch's do."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@contextmanager
def _estimating(norm: _BatchNorm, estimate: str) -> Iterator[None]:
    """Within, the inputs of the norm are watched; at the end it holds their statistics.

    An exception leaves it as it was, and so does it if the norm is never called.
    """
    found: Moments | None = None
    calls = 0

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal found, calls
        x = args[0] if args else kwargs["input"]
        mask = args[1] if len(args) > 1 else kwargs.get("mask")
        mask = None if mask is None else position_mask(mask, x)
        batch = Moments(*(part.flatten() for part in moments(x, (0, *range(2, x.dim())), mask)))
        processes = sharing(getattr(norm, "processes", None), training=True)
        if processes is not None:
            batch = union(batch._replace(n=batch.n[:1]), processes)
        if estimate == "average":
            batch = batch._replace(var=unbiased(batch.var, batch.n))
        calls += 1
        if found is None:
            found = batch
        elif estimate == "population":
            found = merge(found, batch)
        else:
            n = found.n + batch.n
            part = batch.n / n.clamp(min=1.0)
            mean, var = (moved(a, b, part) for a, b in zip(found[:2], batch[:2]))
            found = Moments(mean, var, n)

    hook = norm.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
    if found is None or not bool((found.n > 0).all()):
        return
    assert norm.running_mean is not None
    assert norm.running_var is not None
    var = unbiased(found.var, found.n) if estimate == "population" else found.var
    norm.running_mean.copy_(found.mean)
    norm.running_var.copy_(var)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(calls)
