"""EvalNorm: how much of an example's own statistics inference takes, fitted after training.

Axes: N examples, C channels, R examples of all batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..recurrence.site_norms import BatchSiteNorm
from ..statistics.masks import check_lengths, position_mask, valid_mask
from ..statistics.moments import Moments, moments, moments_of_sets, pooled
from ..statistics.processes import sharing
from ..statistics.ragged import is_ragged, ragged
from ..statistics.reestimate import batch_statistics, call_model, check_model, run_model
from ..statistics.tracking import TRACKING, Tracking, given_to
from .batch import _BatchNorm
from .sequence_batch import BatchNorm

Batch = TypeVar("Batch")
_STEPS = 100  # of a search, which is made twice


class EvalNorm(NamedTuple):
    """The blend of one norm, and how far inference is from training.

    Attributes:
        alpha, beta: shares of the example's mean and of its variance.
        before, after: mean squared difference of the normalised values, without and with the blend.
    """

    alpha: float
    beta: float
    before: float
    after: float


@torch.no_grad()
def fit_eval_norm(
    model: nn.Module,
    batches: Iterable[Batch],
    forward: Callable[[nn.Module, Batch], object] | None = None,
    *,
    part: nn.Module | None = None,
) -> dict[str, EvalNorm]:
    """Let inference blend running statistics with those of the example (EvalNorm).

    Training normalises an example by statistics in which it has a part, the larger the smaller the
    batch. Running statistics do not contain it. Singh & Shrivastava 2019 (arXiv 1904.06031)
    therefore blend in inference, with two numbers alpha and beta for each norm::

        mean = alpha m + (1 - alpha) M        var = beta v + (1 - beta) V
        y = gain * (x - mean) / sqrt(var + eps) + bias

    m and v are the mean and the biased variance of one channel of the example, M and V the running
    ones. The variances are blended as they are, without the square of the distance of m and M.

    This function runs the model on batches like those of training, with BatchNorm by the batch and
    all else in inference mode. In each norm it compares the values x that were normalised by the
    batch, (x - m_B) / sqrt(v_B + eps), with those that inference would compute from the same x. It
    chooses alpha and beta in [0, 1] so that the mean square of the difference is least: alpha by
    its closed form, beta by a search. Weights and running statistics stay as they are. (The paper
    learns both by gradient descent, beside the training.)

    Re-estimate the statistics before, ``reestimate_statistics``. Fitted are ``BatchNorm1d`` to
    ``3d`` and ``BatchNorm`` pooled over time, under their masks and lengths. alpha and beta become
    the buffer ``example_share``, so they are stored in state dicts, and a norm that was not fitted
    can load them. ``del norm.example_share`` undoes the blend. An answer in inference still
    depends on no other example. With ``freeze_statistics`` training blends too. Tools of torch that
    replace BatchNorm, such as ``fuse_conv_bn_eval`` and ``convert_sync_batchnorm``, drop the blend.
    Average weights (``AveragedModel``) before the fit, which adds buffers.

    Args:
        model: any module.
        batches: an iterable that is read once; batches as small as in training.
        forward: ``forward(model, batch)`` runs the model; ``None`` means ``model(batch)``.
        part: the part of the model whose norms are fitted; ``None`` for all of it.

    Returns:
        An ``EvalNorm`` for each norm, by its path in ``part``, with ``alpha`` and ``beta``, and the
        mean squared difference of the normalised values ``before`` and ``after``.

    Raises:
        ValueError: there is no such norm; a norm of the batch cannot blend, such as one with
            statistics of every time step, where the set of an example is one element; a norm is
            never called, or never with an example of two elements; its values are not finite;
            ``part`` is not in the model; or there is no batch.
        TypeError: ``model`` is not a module or, without ``forward``, does not accept a batch.
    """
    check_model(model, "fit_eval_norm(model, batches)")
    if part is not None:
        check_model(part, "fit_eval_norm(model, batches, part=part)")
        if all(part is not module for module in model.modules()):
            raise ValueError(
                f"part, a {type(part).__name__}, is not in the model, a {type(model).__name__}"
            )
    norms: dict[str, Any] = {}
    for path, module in (model if part is None else part).named_modules():
        reason = _reason(module)
        if reason is not None:
            raise ValueError(f"{path or 'the module'} ({type(module).__name__}) {reason}")
        if isinstance(module, (_BatchNorm, BatchNorm)):
            norms[path] = module
    if not norms:
        raise ValueError(
            "there is no norm to fit: BatchNorm1d to 3d and BatchNorm pooled over time can blend"
        )
    seen: dict[str, list[tuple[Moments, Moments]]] = {path: [] for path in norms}
    with batch_statistics(model), ExitStack() as stack:
        for path, norm in norms.items():
            hook = norm.register_forward_pre_hook(partial(_look, seen[path]), with_kwargs=True)
            stack.callback(hook.remove)
        run_model(model, batches, _call if forward is None else forward)
    found = {path: _fitted(path, norm, seen[path]) for path, norm in norms.items()}
    for path, norm in norms.items():
        norm.set_share(found[path].alpha, found[path].beta, _running(norm).mean)
    return found


def _call(model: nn.Module, batch: Any) -> None:
    call_model(model, batch, function="fit_eval_norm")


def _reason(norm: nn.Module) -> str | None:
    """Return the reason why a norm of the batch cannot blend, or None."""
    if isinstance(norm, BatchSiteNorm):
        if not norm.norm.over_time:
            return (
                "has statistics of every time step: the set of an example there is one element, "
                "with variance 0, which cannot stand for the batch's; fit another part of the "
                "model, part=..., and see seqnorm.reestimate_statistics"
            )
        return (
            "is inside a recurrent layer, whose norms do not blend: use seqnorm.BatchNorm before "
            "the layer, or fit another part of the model, part=..."
        )
    if isinstance(norm, BatchNorm):
        if type(norm).forward is not BatchNorm.forward:
            return "has a forward of its own, whose sets are unknown here: take its base class"
        if norm.per_step:
            return (
                "has statistics of every time step (max_steps): the set of an example there is one "
                "element, with variance 0; leave max_steps=None"
            )
        if norm.renormalization is not None:
            return "has Batch Renormalization, which has brought training near inference already"
        shared = norm.table.processes
    elif isinstance(norm, _BatchNorm):
        if type(norm).forward is not _BatchNorm.forward:
            return "has a forward of its own, whose sets are unknown here: take its base class"
        if norm.running_mean is None:
            return "has no running statistics, so that inference is by the batch"
        shared = norm.processes
    elif isinstance(norm, Tracking):
        return (
            "has gains or statistics of several kinds, and cannot blend: take seqnorm.BatchNorm2d"
        )
    elif isinstance(norm, TRACKING):
        return "cannot blend: replace torch's by seqnorm's, seqnorm.convert_norm(model, to='batch')"
    else:
        return None
    if sharing(shared, True) is not None:
        return "shares its statistics with other processes: seqnorm.revert_sync_batchnorm(model)"
    return None


def _look(
    seen: list[tuple[Moments, Moments]],
    norm: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    """Add the moments (N, C) of the examples of a call, and those of their batch."""
    own = _of_examples(norm, args, kwargs)
    own = Moments(*(part.double() for part in own))
    batch = pooled(own, (0,))
    seen.append((own, Moments(*(part.expand(own.mean.shape) for part in batch))))


def _of_examples(norm: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Moments:
    """Return mean and variance (N, C) and the number (N, 1) of elements of every example."""
    if isinstance(norm, _BatchNorm):
        x, mask = given_to(norm, args, kwargs)
        if x.dim() == 2:  # each example is one element
            return Moments(x, torch.zeros_like(x), torch.ones_like(x[:, :1]))
        found = moments(x, range(2, x.dim()), position_mask(mask, x))
        shape = found.mean.shape[:2]
        n = found.n.expand(found.mean.shape).reshape(shape)[:, :1]
        return Moments(found.mean.reshape(shape), found.var.reshape(shape), n)
    given = inspect.signature(norm.forward).bind(*args, **kwargs).arguments
    x, lengths, bounds = given["x"], given.get("lengths"), given.get("cu_seqlens")
    if is_ragged(x, bounds):
        rows = ragged(type(norm).__name__, x, lengths, bounds)
        sequence, step = (place.to(rows.values.device) for place in rows.places())
        index = rows.starts.to(sequence.device)[sequence] + step
        return moments_of_sets(rows.values[index], sequence, len(rows.lengths))
    x = x if norm.layout == "NTC" else x.transpose(1, 2)
    mask = None
    if lengths is not None:
        lengths = check_lengths(lengths, x.shape[0], x.shape[1]).to(x.device)
        mask = valid_mask(lengths, x.shape[1])[:, :, None]
    found = moments(x, (1,), mask)
    return Moments(found.mean[:, 0], found.var[:, 0], found.n[:, 0, :1])


def _running(norm: Any) -> Moments:
    """Return the running statistics (C,) of a norm."""
    if isinstance(norm, BatchNorm):
        mean, var = (part[0] for part in norm.table.read(1))
    else:
        mean, var = norm.running_mean, norm.running_var
    return Moments(mean, var, torch.zeros_like(mean))


def _together(parts: Sequence[Moments]) -> Moments:
    """Return the moments (R, .) of the examples of all batches."""
    mean, var, n = (torch.cat(each) for each in zip(*parts))
    return Moments(mean, var, n)


def _fitted(path: str, norm: Any, seen: list[tuple[Moments, Moments]]) -> EvalNorm:
    """Return the blend with the least difference, from the moments that a norm has seen.

    With s = 1 / sqrt(var + eps) of inference, s_B of the batch, and e = s_B (m - m_B), the mean
    square of the difference in one example is ``(s_B - s)^2 v + (e - (1 - alpha) s (m - M))^2``.
    """
    if not seen:
        raise ValueError(
            f"{path or 'the module'} ({type(norm).__name__}) was never called: fit the part of the "
            "model that the batches reach, part=..."
        )
    if not any(bool((own.n > 1).any()) for own, _ in seen):
        raise ValueError(
            f"{path or 'the module'} ({type(norm).__name__}) was never called with an example of "
            "two elements: the mean of one is itself, and its variance is 0"
        )
    own, batch = _together([one for one, _ in seen]), _together([other for _, other in seen])
    running = Moments(*(part.double() for part in _running(norm)))
    weight = own.n / (own.n.sum() * own.mean.shape[1])
    of_batch = torch.rsqrt(batch.var + norm.eps)
    wanted = of_batch * (own.mean - batch.mean)

    def difference(beta: Tensor, alpha: float | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean squared difference, and alpha, which is the best one if not given."""
        scale = torch.rsqrt(running.var + beta * (own.var - running.var) + norm.eps)
        far = scale * (own.mean - running.mean)
        kept = (weight * wanted * far).sum() / (weight * far * far).sum()
        kept = torch.where(kept.isfinite(), kept, 1.0).clamp(0.0, 1.0)
        if alpha is not None:
            kept = torch.full_like(kept, 1.0 - alpha)
        square = (of_batch - scale).square() * own.var + (wanted - kept * far).square()
        return (weight * square).sum(), 1.0 - kept

    start = own.mean.new_zeros(())
    before, _ = difference(start, 0.0)
    if not bool(before.isfinite()):
        raise ValueError(
            f"the values or the running statistics of {path or 'the module'} "
            f"({type(norm).__name__}) are not finite, so nothing can be fitted to them"
        )
    low, high = 0.0, 1.0
    for _ in range(2):
        betas = torch.linspace(low, high, _STEPS + 1, dtype=start.dtype, device=start.device)
        found = [difference(beta) for beta in betas]
        best = int(torch.stack([square for square, _ in found]).argmin())
        low, high = float(betas[max(best - 1, 0)]), float(betas[min(best + 1, _STEPS)])
    after, alpha = found[best]
    return EvalNorm(float(alpha), float(betas[best]), float(before), float(after))
