"""A layer in one direction, or in both, as one operator of autograd."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..watching import is_forward_mode, is_plain
from .calls import Backward, Forward, compute, compute_gradients
from .definition import gradients
from .plan import Inputs, Plan


def recurrence(plan: Plan, inputs: Inputs) -> tuple[Tensor, ...]:
    """One direction of an LSTM or GRU: (output (N, H), h_n (B, H)[, c_n (B, H)]), and for each norm
    that takes statistics of these rows, of x, of h and of c, mean and 1 / deviation (T, 2, .) and
    variance (T, .), which have no gradient."""
    return recurrences((plan, inputs))[0]


def recurrences(*calls: tuple[Plan, Inputs]) -> list[tuple[Tensor, ...]]:
    """``recurrence`` of up to ``library.TOGETHER`` calls of one dtype at the same time."""
    plans = tuple(plan for plan, _ in calls)
    every = [tensor for _, inputs in calls for tensor in inputs]
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in every):
        found: tuple[Tensor, ...] = Recurrence.apply(plans, *every)  # type: ignore[no-untyped-call]  # torch's own
        results = iter(found)
        return [tuple(next(results) for _ in range(number_of_results(*call))) for call in calls]
    passes = [Forward(*call, keep=False) for call in calls]
    compute(*passes)
    return [each.results for each in passes]


def number_of_results(plan: Plan, inputs: Inputs) -> int:
    """Output, states, and statistics."""
    return 1 + len(plan.cell.states) + 2 * len(plan.own(inputs))


class Recurrence(torch.autograd.Function):
    """``recurrences`` with gradients: all results of all calls, one after another."""

    @staticmethod
    def forward(ctx: Any, plans: tuple[Plan, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        inputs = [Inputs._make(part) for part in _parts(tensors)]
        passes = [Forward(*call, keep=True) for call in zip(plans, inputs)]
        compute(*passes)
        ctx.kept = [one.kept() for one in passes]
        ctx.plans = plans
        ctx.save_for_backward(*tensors, *(one.results[0] for one in passes))
        ctx.statistics = [one.results[1 + len(one.plan.cell.states) :] for one in passes]
        ctx.mark_non_differentiable(*itertools.chain(*ctx.statistics))
        ctx.set_materialize_grads(False)
        return tuple(itertools.chain(*(one.results for one in passes)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        plans, saved = ctx.plans, ctx.saved_tensors
        inputs = [Inputs._make(part) for part in _parts(saved[: -len(plans)])]
        needed, outputs, rest = _parts(ctx.needs_input_grad[1:]), saved[-len(plans) :], iter(grads)
        cotangents = [
            tuple(next(rest) for _ in range(number_of_results(*call)))[
                : 1 + len(call[0].cell.states)
            ]
            for call in zip(plans, inputs)
        ]
        # Are derivatives of these gradients asked for?
        again = torch.is_grad_enabled() or is_forward_mode()
        if again or not all(grad is None or is_plain(grad) for grad in grads):
            found = [gradients(*call) for call in zip(plans, inputs, cotangents, needed)]
            return None, *itertools.chain(*found)
        # The gradients take the place of what was kept; a second pass computes that once more.
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            passes = [Forward(*call, keep=True) for call in zip(plans, inputs)]
            compute(*passes)
            kept = [one.kept() for one in passes]
        ends = (None,) * len(plans[0].cell.states)  # which are not read
        results = [(output, *ends, *own) for output, own in zip(outputs, ctx.statistics)]
        every = zip(plans, inputs, results, kept, cotangents, needed)
        return None, *itertools.chain(*compute_gradients(*(Backward(*call) for call in every)))


def _parts(values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What belongs to the inputs of each call."""
    size = len(Inputs._fields)
    return [tuple(values[start : start + size]) for start in range(0, len(values), size)]
