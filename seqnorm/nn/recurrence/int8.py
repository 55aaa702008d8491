"""Matrices of int8: whole numbers, and a scale of each row.

Axes: R rows of a matrix, one for each output, K numbers in a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..statistics.moments import widen

MOST = 127
MATRICES = ("weight_ih", "weight_hh", "weight_hr")


def scale_name(name: str) -> str:
    """Return the name of the buffer that holds the scales of a matrix."""
    return f"{name}_scale"


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whole numbers (R, K) of a matrix, from -127 to 127, and the scales (R,).

    The largest number of a row becomes 127 or -127. A row of zeros has the scale 0.
    """
    scale = weight.abs().amax(1) / MOST
    divisor = torch.where(scale > 0, scale, 1)[:, None]
    # A quotient in bfloat16 has 8 binary digits, and its rounding would be a second one.
    numbers = (widen(weight) / widen(divisor)).round()
    # A subnormal scale has few digits, so the largest number could become 128.
    return numbers.clamp(-MOST, MOST).to(torch.int8), scale


def dequantised(weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matrix (R, K) for which whole numbers and scales stand."""
    return weight.to(scale.dtype) * scale[:, None]


def scales_of(module: nn.Module, suffix: str) -> dict[str, Tensor]:
    """Return the scales of one direction of a module by the names of its matrices."""
    if not module._buffers:
        return {}
    found = {name: module._buffers.get(scale_name(name + suffix)) for name in MATRICES}
    return {name: scale for name, scale in found.items() if scale is not None}


def matrices(module: nn.Module, suffix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield each matrix of one direction that can be of int8, with its name in the module.

    The recurrent weights of an IndRNN are a vector, and a matrix without inputs has no numbers.
    """
    for name in MATRICES:
        weight = getattr(module, name + suffix, None)
        if weight is not None and weight.dim() == 2 and weight.numel():
            yield name + suffix, weight


def dtype_of(module: nn.Module, name: str) -> torch.dtype:
    """Return the dtype of the terms that a matrix gives, which for int8 is that of its scales."""
    scale = module._buffers.get(scale_name(name))
    found: Tensor = getattr(module, name) if scale is None else scale
    return found.dtype


def misfit(module: nn.Module, state_dict: dict[str, Tensor], prefix: str) -> str | None:
    """Return why matrices of a state dict cannot be loaded, where one side alone has int8."""
    for name in (*module._parameters, *module._buffers):
        given, own = state_dict.get(prefix + name), getattr(module, name)
        if own is None or given is None or (given.dtype == torch.int8) == (own.dtype == torch.int8):
            continue
        if own.dtype == torch.int8:
            return (
                f"{prefix}{name} is {given.dtype} there and int8 here: load a state dict in "
                "floating point before seqnorm.quantize_(model)"
            )
        return (
            f"{prefix}{name} is int8 there and {own.dtype} here: the state dict was saved after "
            "seqnorm.quantize_(model), so call that on this model before loading"
        )
    return None
