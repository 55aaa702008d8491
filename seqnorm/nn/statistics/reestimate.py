"""Statistics of trained BatchNorm layers computed anew: of a whole data set, or of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, Union

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.rnn import PackedSequence

from ..check import choose
from .freezing import learning
from .masks import position_mask
from .moments import Moments, merge, moments, moved, unbiased
from .processes import sharing, union
from .running_table import ESTIMATES, RunningTable
from .tracking import TRACKING, given_to

Batch = TypeVar("Batch")
Device = Union[int, str, torch.device, None]


@torch.no_grad()
def reestimate_statistics(
    model: nn.Module,
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], object] | None = None,
    *,
    estimate: str = "population",
) -> int:
    """Replace all running statistics in ``model`` with statistics of all ``batches``.

    Running averages lag behind the weights and depend mostly on the last batches. This gives
    inference the statistics of the whole training set instead (Cooijmans et al. 2017, sec. 3).
    During the pass BatchNorm layers normalise by the batch, and everything else (dropout, zoneout)
    is in inference mode; afterwards the mode of every module is restored.

    Norms of images and ``torch.nn.BatchNorm1d`` to ``3d`` are included; their
    ``num_batches_tracked`` becomes the number of their calls. After ``convert_sync_batchnorm`` the
    statistics are those of the batches of all processes, each of which must pass the same number.
    A ``torch.nn.SyncBatchNorm`` takes those of its own process.

    Args:
        model: any module that contains normalised layers.
        batches: an iterable that is read once, such as a training loader.
        forward: ``forward(model, batch)`` runs the model; ``None`` means ``model(batch)``. If a
            batch holds more than the input, select it: ``lambda model, batch: model(batch[0])``.
        estimate: "population" for the moments of all rows as one batch, "average" for the
            row-weighted average of the batches' means and variances.

    Returns:
        The number of batches.

    Raises:
        ValueError: there is nothing to estimate, or no batch; all statistics are then unchanged.
        TypeError: ``model`` is not a module or, without ``forward``, does not accept a batch.
    """
    choose("estimate", estimate, ESTIMATES)
    check_model(model, "reestimate_statistics(model, batches)")
    if not _tables(model) and not _tracking(model):
        raise ValueError(
            "this model has no running statistics: no norm in it averages over the batch"
        )
    with _normalising_by_the_batch(model), _estimating(model, estimate):
        return run_model(model, batches, call_model if forward is None else forward)


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: Device = None) -> None:
    """Update running statistics as ``torch.optim.swa_utils.update_bn``, for seqnorm's norms too.

    Averaging the weights of a model (``torch.optim.swa_utils.AveragedModel``), or setting them by
    hand, makes its running statistics stale. torch's function recomputes those of torch's BatchNorm
    classes and of their subclasses, this library's ``BatchNorm1d`` to ``3d``. It silently skips the
    tables of ``seqnorm.BatchNorm`` and of recurrent layers with ``norm="batch"``. This function
    updates both in one pass.

    As in torch's function, the model is in training mode, dropout included, and the statistics of
    torch's classes are the unweighted mean over the batches. A table weights the batches by their
    rows at each step, and counts the rows. Unlike torch's function, an exception leaves all
    statistics unchanged, and the mode of every module is restored. For statistics of all rows as
    one batch, without dropout, or for models with several inputs, see ``reestimate_statistics``.

    Args:
        loader: batches, read once: the input, or a list or tuple whose first element is the input.
            A ``PackedSequence`` is an input.
        model: any module. Without running statistics nothing is done.
        device: the device to which inputs are moved first.

    Raises:
        ValueError: there is no batch.
        TypeError: ``model`` is not a module, or does not accept the first element of a batch.
    """
    check_model(model, "update_bn(loader, model)")
    if not _tables(model) and not _tracking(model):
        return

    def forward(model: nn.Module, batch: Any) -> None:
        if isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence):
            call_model(model, batch[0], "the first element of a batch", device)
        else:
            call_model(model, batch, device=device)

    with _restoring(model), _estimating(model, "average", alike=True):
        run_model(model.train(), loader, forward)


def check_model(model: object, call: str) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}: write {call}"
        )


def run_model(
    model: nn.Module, batches: Iterable[Batch], forward: Callable[[nn.Module, Batch], object]
) -> int:
    """Run the model on every batch and return their number."""
    seen = 0
    for batch in batches:
        forward(model, batch)
        seen += 1
    if seen == 0:
        raise ValueError("no batches: an empty iterable, or a generator already used up")
    return seen


def call_model(
    model: nn.Module,
    given: Any,
    what: str = "a whole batch",
    device: Device = None,
    function: str = "reestimate_statistics",
) -> None:
    """Call the model with one argument, moved to the device.

    Args:
        function: the function that takes ``forward``.

    Raises:
        TypeError: the model does not accept it; the message says what to write instead.
    """
    try:
        model(given if device is None else given.to(device))
    except (TypeError, AttributeError) as error:
        if isinstance(error, AttributeError) and isinstance(given, Tensor):
            raise  # a mistake in the model, for a tensor has the attributes that models read
        raise TypeError(
            f"{type(model).__name__} does not take {what}, a {type(given).__name__}, as its only "
            f"argument ({error}). Say how to run it on a batch: "
            f"seqnorm.{function}(model, loader, forward=lambda model, batch: "
            "model(batch[0])), or with the further arguments that it takes"
        ) from error


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by each batch's own statistics inside this context, without updating anything.

    This compares the outputs of a model under batch statistics and under running statistics, all
    else being equal: everything but BatchNorm (dropout, zoneout) is in inference mode. As in
    training, a step with fewer than ``min_count`` rows or beyond its table is read from the table.
    Norms of images and ``torch.nn.BatchNorm1d`` to ``3d`` are included. At the end the mode of
    every module is restored. A model without running statistics is simply in inference mode.
    """
    with _normalising_by_the_batch(model), ExitStack() as stack:
        for table in _tables(model):
            stack.enter_context(table.held())
        yield


@contextmanager
def _normalising_by_the_batch(model: nn.Module) -> Iterator[None]:
    """Put norms of the batch in training mode, without tracking, and all else in inference."""
    with _restoring(model):
        model.eval()
        for module in model.modules():
            tables = any(isinstance(child, RunningTable) for child in module.children())
            module.training = tables or isinstance(module, TRACKING)
        yield


@contextmanager
def _restoring(model: nn.Module) -> Iterator[None]:
    """Stop norms that track as torch's do, and let all norms of the batch learn.

    At the end their tracking, frozen statistics and all modes are restored.
    """
    modes = {module: module.training for module in model.modules()}
    tracks = {norm: norm.track_running_stats for norm in modes if isinstance(norm, TRACKING)}
    try:
        for norm in tracks:
            norm.track_running_stats = False
        with learning(model):
            yield
    finally:
        for norm, before in tracks.items():
            norm.track_running_stats = before
        for module, training in modes.items():
            module.training = training


def _tables(model: nn.Module) -> list[RunningTable]:
    return [module for module in model.modules() if isinstance(module, RunningTable)]


def _tracking(model: nn.Module) -> list[_NormBase]:
    """Return the norms that track running statistics as torch's do."""
    norms = (module for module in model.modules() if isinstance(module, TRACKING))
    return [norm for norm in norms if norm.running_mean is not None]


@contextmanager
def _estimating(model: nn.Module, estimate: str, *, alike: bool = False) -> Iterator[None]:
    """Gather statistics inside this context, which all tables and norms hold at its end.

    Args:
        alike: give all batches the same weight in norms that track as torch's do.
    """
    with ExitStack() as stack:
        for table in _tables(model):
            stack.enter_context(table.estimating(estimate))
        for norm in _tracking(model):
            stack.enter_context(_estimating_norm(norm, estimate, alike))
        yield


@contextmanager
def _estimating_norm(norm: _NormBase, estimate: str, alike: bool) -> Iterator[None]:
    """Gather the statistics of the norm's inputs, which it holds at the end of this context.

    An exception leaves the norm unchanged, and so does a context without a call of it.
    """
    found: Moments | None = None
    calls = 0

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal found, calls
        x, mask = given_to(module, args, kwargs)
        own = moments(x, (0, *range(2, x.dim())), position_mask(mask, x))
        batch = Moments(*(part.flatten() for part in own))
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
