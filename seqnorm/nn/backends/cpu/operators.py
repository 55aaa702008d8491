"""A layer in one direction as one operator of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from .calls import compute, compute_gradients
from .definition import gradients
from .plan import Inputs, Plan


def recurrence(plan: Plan, inputs: Inputs) -> tuple[Tensor, ...]:
    """One direction of an LSTM or GRU: (output (N, H), h_n (B, H)[, c_n (B, H)]), and for each norm
    that takes statistics of these rows, of x, of h and of c, mean and 1 / deviation (T, 2, .) and
    variance (T, .), which have no gradient."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        results: tuple[Tensor, ...] = Recurrence.apply(plan, *inputs)  # type: ignore[no-untyped-call]  # torch's own
        return results
    return compute(plan, inputs, False)[0]


_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


class Recurrence(torch.autograd.Function):
    """``recurrence`` with gradients."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        results, ctx.kept = compute(plan, Inputs(*tensors), True)  # type: ignore[arg-type]  # as apply got them
        ctx.plan = plan
        ctx.save_for_backward(*tensors, results[0])
        ctx.statistics = results[1 + len(plan.cell.states) :]
        ctx.mark_non_differentiable(*ctx.statistics)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, output = ctx.saved_tensors
        inputs = Inputs(*saved)
        needed = ctx.needs_input_grad[1:]
        again = torch.is_grad_enabled()  # derivatives of these gradients are asked for
        if again or not all(grad is None or is_plain(grad) for grad in grads):
            return None, *gradients(ctx.plan, inputs, grads, needed)
        # The gradients take the place of what was kept; a second pass computes that once more.
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            _, kept = compute(ctx.plan, inputs, True)
        ends = (None,) * len(ctx.plan.cell.states)
        results = (output, *ends, *ctx.statistics)
        return None, *compute_gradients(ctx.plan, inputs, results, kept, grads, needed)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own that means what it says."""
    if type(tensor) not in (Tensor, Parameter):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # one that stands for many, as in a vectorised backward pass
        return False
    return not _is_wrapped(tensor)
