"""Products in half precision: under autocast, and of layers that are in it themselves.

The kernels round the operands of each product with a matrix, and compute all else in float32.
Rounding counts as the identity in a derivative, and gradients are not rounded.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ...autocast import autocast_dtype, is_autocast
from ...recurrence.direction import Direction
from ...recurrence.step import Step
from ...statistics.moments import widen
from .call import Inputs

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)


def in_half(rows: Tensor) -> bool:
    """Return whether products with these rows are in bfloat16; autocast leaves float64 alone."""
    return rows.dtype == torch.bfloat16 or (rows.dtype == torch.float32 and is_autocast("cpu"))


def only_whole(direction: Direction) -> bool:
    """Return whether the kernels compute a direction in float32 and float64 alone."""
    special = direction.weight_hr is not None or direction.step.heads > 0
    return special or bool(direction.scales)


def refusal(direction: Direction, rows: Tensor, given: tuple[Tensor, ...]) -> str | None:
    """Return the reason if the kernels cannot compute in these dtypes, given all tensors."""
    cast = rows.dtype != torch.float64 and is_autocast("cpu")
    if rows.dtype not in _FLOATS or (cast and autocast_dtype("cpu") != torch.bfloat16):
        return "its kernels compute only in float32, float64 and bfloat16"
    if (cast or rows.dtype == torch.bfloat16) and only_whole(direction):
        return (
            "it has no kernel in bfloat16 with a projection (proj_size), with heads or with "
            "weights of int8"
        )
    known = [torch.float32, torch.bfloat16] if cast else [rows.dtype]
    known += [torch.int8] if direction.scales else []
    for tensor in given:
        if tensor.dtype not in known or not tensor.is_cpu:
            return "its kernels take input, weights and states of one dtype, on the CPU"
    return None


def widened(inputs: Inputs) -> Inputs:
    """Convert the tensors in half precision to float32."""
    return Inputs._make([None if tensor is None else widen(tensor) for tensor in inputs])


class _Nearest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent.view_as(tangent)  # torch takes no tangent of the input itself


def nearest(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest values of a dtype, in the dtype of ``x``."""
    found: Tensor = _Nearest.apply(x, dtype)  # type: ignore[no-untyped-call]  # torch's own
    return found


def rounding(step: Step, dtype: torch.dtype) -> Step:
    """Return a copy of a step that rounds the operands of its product with W_hh.

    The weights of an IndRNN are no matrix, so nothing is rounded there.
    """
    step, exact = copy.copy(step), step.hidden_term

    def hidden_term(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if weight.dim() > 1:
            h, weight = nearest(h, dtype), nearest(weight, dtype)
        return exact(h, weight, bias)

    step.hidden_term = hidden_term  # type: ignore[method-assign]  # of this copy alone
    return step
