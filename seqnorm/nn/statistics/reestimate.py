"""Other statistics for trained BatchNorm layers: of the whole population, or of each batch.

``update_bn`` and ``reestimate_statistics`` take them anew in the same way: tables and norms as
torch's are watched during the pass over the batches, and get at its end what was gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence

from ..check import choose
from .masks import position_mask
from .moments import Moments, merge, moments, moved, unbiased
from .processes import sharing, union
from .running_table import ESTIMATES, RunningTable

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
        forward: ``forward(model, batch)`` runs the model; ``model(batch)`` if None. Where batches
            hold more than the input, say what is: ``lambda model, batch: model(batch[0])``.
        estimate: "population" for the moments of all rows as one batch, "average" for the
            row-weighted average of the batches' means and variances.

    Returns:
        The number of batches seen.

    Raises:
        ValueError: there is nothing to estimate, or no batch; all statistics are then as they were.
        TypeError: ``model`` is no module; without ``forward``, it does not take a batch as it is.
    """
    choose("estimate", estimate, ESTIMATES)
    _check_model(model, "reestimate_statistics(model, batches)")
    if not _tables(model) and not _others(model):
        raise ValueError(
            "this model has no running statistics: no norm in it averages over the batch"
        )
    with _by_the_batch(model), _anew(model, estimate):
        return _run(model, batches, _alone if forward is None else forward)


@torch.no_grad()
def update_bn(
    loader: Iterable[Any], model: nn.Module, device: int | str | torch.device | None = None
) -> None:
    """``torch.optim.swa_utils.update_bn``, for the norms of this library too.

    After weights were averaged (``torch.optim.swa_utils.AveragedModel``) or set otherwise, running
    statistics are those of other weights. torch's function takes them anew for its own BatchNorm
    classes and those derived from them (this library's ``BatchNorm1d`` to ``3d``), but knows
    nothing of the tables of a recurrent layer with ``norm="batch"`` or of ``seqnorm.BatchNorm``: of
    a model with these alone it does nothing, not even a warning. This one does both in one pass.

    As in torch's, the model is in training mode, dropout included, and the statistics of torch's
    classes are the mean of those of the batches, each weighing alike. A table weighs the batches by
    the rows that they have at a step, and counts these. Unlike in torch's, an exception leaves all
    statistics as they were, and each module gets back the mode that it had. See
    ``reestimate_statistics`` for statistics of all rows as one batch, without dropout, and for
    models whose call takes more than one argument.

    Args:
        loader: batches, gone through once: the input, or a list or tuple whose first element is.
            A ``PackedSequence`` is an input.
        model: any module. Without running statistics nothing is done.
        device: where inputs are moved first.

    Raises:
        ValueError: there is no batch.
        TypeError: ``model`` is no module, or does not take the first element of a batch alone.
    """
    _check_model(model, "update_bn(loader, model)")
    if not _tables(model) and not _others(model):
        return
    modes = {module: module.training for module in model.modules()}

    def forward(model: nn.Module, batch: Any) -> None:
        several = isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence)
        given = batch[0] if several else batch
        what = "the first element of a batch" if several else "a whole batch"
        _alone(model, given, what, device)

    with _untracked(model), _anew(model, "average", alike=True):
        try:
            _run(model.train(), loader, forward)
        finally:
            for module, training in modes.items():
                module.training = training


def _check_model(model: object, call: str) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}: write {call}"
        )


def _run(
    model: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> int:
    """How many batches there were."""
    seen = 0
    for batch in batches:
        forward(model, batch)
        seen += 1
    if seen == 0:
        raise ValueError("no batches: an empty iterable, or a generator already used up")
    return seen


def _alone(
    model: nn.Module,
    given: Any,
    what: str = "a whole batch",
    device: int | str | torch.device | None = None,
) -> None:
    """The model on what it is given, moved to the device, and nothing else.

    Raises:
        TypeError: it does not take that, with what to write instead.
    """
    try:
        model(given if device is None else given.to(device))
    except (TypeError, AttributeError) as error:
        if isinstance(error, AttributeError) and isinstance(given, Tensor):
            raise  # by a mistake in the model, for tensors have what models ask of them
        raise TypeError(
            f"{type(model).__name__} does not take {what}, a {type(given).__name__}, as its only "
            f"argument ({error}). Say how it is to be run on a batch: "
            "seqnorm.reestimate_statistics(model, loader, forward=lambda model, batch: "
            "model(batch[0])), or with the further arguments that it takes"
        ) from error


@contextmanager
def _anew(model: nn.Module, estimate: str, *, alike: bool = False) -> Iterator[None]:
    """Within, statistics are gathered, which all tables and norms hold at the end.

    Args:
        alike: whether the batches of norms that keep statistics as torch's do weigh alike.
    """
    with ExitStack() as stack:
        for table in _tables(model):
            stack.enter_context(table.estimating(estimate))
        for norm in _others(model):
            stack.enter_context(_estimating(norm, estimate, alike))
        yield


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
    with _untracked(model), ExitStack() as stack:
        for module, training in modes.items():
            stack.callback(setattr, module, "training", training)
            tables = any(isinstance(child, RunningTable) for child in module.children())
            module.training = tables or isinstance(module, _BatchNorm)
        yield


@contextmanager
def _untracked(model: nn.Module) -> Iterator[None]:
    """Within, norms that keep running statistics as torch's do keep them as they are."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                stack.callback(setattr, module, "track_running_stats", module.track_running_stats)
                module.track_running_stats = False
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
def _estimating(norm: _BatchNorm, estimate: str, alike: bool = False) -> Iterator[None]:
    """Within, the inputs of the norm are watched; at the end it holds their statistics.

    An exception leaves it as it was, and so does it if the norm is never called. With ``alike``
    every batch weighs as much as any other.
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
        if alike:
            batch = batch._replace(n=(batch.n > 0).to(batch.n.dtype))
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
