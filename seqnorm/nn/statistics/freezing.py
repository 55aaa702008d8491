"""Running statistics frozen in training (Wu & Johnson 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from .running_table import RunningTable
from .tracking import TRACKING

# Where a norm that is called as torch's keeps the hooks that freeze it.
_HOOKS = "_seqnorm_frozen"


def freeze_statistics(module: nn.Module, frozen: bool = True) -> None:
    """Normalise by running statistics in training too, and keep them as they are.

    Every norm of the batch in ``module`` then computes ``gain * (x - M) / sqrt(V + eps) + bias``
    with its running mean M and variance V, constants for gradients, as in inference. Training and
    inference compute the same function, and no example depends on the others of its batch. Wu &
    Johnson 2021 (arXiv 2105.07576, section 4) do so for the last epochs of a training with small
    batches. From the beginning it would be unstable, since nothing holds the activations.

    Re-estimate the statistics before, ``reestimate_statistics``, so that they are those of the
    present weights. ``reestimate_statistics``, ``update_bn`` and ``batch_statistics`` go on
    working; they normalise by the batch, and the norms are frozen again afterwards.

    The compiled kernels compute such norms in training as in inference. Norms of images and
    ``torch.nn.BatchNorm1d`` to ``3d`` are included. All else (dropout, zoneout) stays in training
    mode, and gains, biases and weights go on learning. It is a mode, like that of ``train()``: it
    is not part of a state dict. With Lightning there is the callback
    ``seqnorm.training.FreezeStatistics``.

    Args:
        module: a norm, a layer, or a network that contains them; changed in place.
        frozen: false to learn statistics again.

    Raises:
        ValueError: there are no running statistics in ``module``.
        TypeError: a norm of your own holds a ``RunningTable`` and has no attribute ``frozen``.
    """
    found = list(_norms(module))
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no running statistics to freeze: no norm in it averages "
            "over the batch"
        )
    for name, norm in found:
        if not isinstance(norm, TRACKING) and not hasattr(norm, "frozen"):
            raise TypeError(
                f"{name or 'the module'} ({type(norm).__name__}) holds a RunningTable and cannot "
                "be frozen: give the class an attribute frozen = False, and let forward read the "
                "table, and not update it, where that is true"
            )
    for _, norm in found:
        _set(norm, frozen)


def is_frozen(norm: nn.Module) -> bool:
    """Return whether the running statistics of a norm are frozen."""
    return hasattr(norm, _HOOKS) or bool(getattr(norm, "frozen", False))


def any_frozen(model: nn.Module) -> bool:
    """Return whether ``freeze_statistics`` holds for a norm of the model."""
    return any(is_frozen(norm) for _, norm in _norms(model))


@contextmanager
def learning(model: nn.Module) -> Iterator[None]:
    """Learn all running statistics inside this context; afterwards freeze those that were."""
    frozen = [norm for _, norm in _norms(model) if is_frozen(norm)]
    for norm in frozen:
        _set(norm, False)
    try:
        yield
    finally:
        for norm in frozen:
            _set(norm, True)


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the paths and the norms with running statistics."""
    for name, module in model.named_modules():
        tracks = isinstance(module, TRACKING) and module.running_mean is not None
        if tracks or any(isinstance(child, RunningTable) for child in module.children()):
            yield name, module


def _set(norm: nn.Module, frozen: bool) -> None:
    if not isinstance(norm, TRACKING):
        norm.frozen = frozen  # type: ignore[assignment]  # a plain attribute
        return
    if frozen == is_frozen(norm):
        return
    if frozen:
        # Its forward asks for the mode, so the mode is that of inference during a call.
        hooks = (
            norm.register_forward_pre_hook(_enter),
            norm.register_forward_hook(_leave, always_call=True),
        )
        setattr(norm, _HOOKS, hooks)
        return
    hooks_found: tuple[RemovableHandle, ...] = getattr(norm, _HOOKS)
    for hook in hooks_found:
        hook.remove()
    delattr(norm, _HOOKS)


def _enter(norm: nn.Module, args: Any) -> None:
    norm._seqnorm_was_training = norm.training  # type: ignore[assignment]  # a plain attribute
    norm.training = False


def _leave(norm: nn.Module, args: Any, output: Any) -> None:
    norm.training = bool(norm._seqnorm_was_training)
