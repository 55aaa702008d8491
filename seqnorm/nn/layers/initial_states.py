"""Initial states of a layer: their shapes, dtype and order.

Axes: B sequences, H = hidden_size, P = size of h (H, or proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..autocast import autocast_dtype, is_autocast
from ..backends.watching import refuse_freed
from ..recurrence.int8 import dtype_of
from ..recurrence.packing import Packing
from .resets import anew
from .torch_contract import TorchContract

States = tuple[Tensor, ...]
Suffixes = list[list[str]]


def own_states(layer: TorchContract, like: Tensor, suffixes: Suffixes) -> States:
    """Return the states (L * D, 1, .) with which sequences begin: learned ones, or zeros.

    Args:
        like: any tensor with the dtype and the device of the states.
        suffixes: for each layer, the suffixes of its directions.
    """
    found: States = ()
    for letter, size in zip(layer.step.states, layer.state_sizes):
        if layer.learn_initial_state and letter in layer.step.learned:
            every = [suffix for directions in layer.suffixes for suffix in directions]
            asked = [suffix for directions in suffixes for suffix in directions]
            part = getattr(layer, f"{letter}_0")
            if asked != every:
                part = part[[every.index(suffix) for suffix in asked]]
            found += (part.to(like.dtype).unsqueeze(1),)
        else:
            found += (like.new_zeros(len(suffixes) * len(suffixes[0]), 1, size),)
    return found


def renew(
    layer: TorchContract, states: States, own: States, renewed: Tensor, directions: int
) -> States:
    """Return states whose forward directions begin anew where told.

    Args:
        states: (L * D, B, .) each.
        own: (L * D, 1, .), see ``own_states``.
        renewed: (B,) boolean.
        directions: D. A backward direction ends at the first step.
    """
    if not layer.learn_initial_state and not bool(renewed.any()):
        return states  # else a parameter has a gradient, though it may be zero
    forwards = torch.arange(len(states[0]), device=renewed.device) % directions == 0
    return anew(states, own, forwards[:, None] & renewed)


def initial_states(
    layer: TorchContract, hx: States | None, packing: Packing, input: Tensor, suffixes: Suffixes
) -> States:
    """Return the initial states (L * D, B, .) in packed order, checked.

    They are those of ``own_states`` if none are given.

    Args:
        suffixes: for each layer, the suffixes of its directions.

    Raises:
        ValueError, RuntimeError: the number of states, a shape, device or dtype is wrong.
    """
    sizes = layer.state_sizes
    entries = len(suffixes) * len(suffixes[0])
    # Under autocast a state keeps the precision of the weights. Layers that torch has are
    # computed in half precision throughout, as in torch, unless they are in float64.
    dtype = layer.weight_ih_l0.dtype
    dtype = dtype_of(layer, "weight_ih_l0") if layer.quantised else dtype
    kind = input.device.type
    halve = False
    if layer.norm is None and layer.step.fused is not None and dtype != torch.float64:
        halve = is_autocast(kind)
        dtype = autocast_dtype(kind) if halve else dtype
    if hx is None:
        zeros: States = ()
        for size in sizes:
            zeros += (input.new_zeros(entries, packing.batch, size, dtype=dtype),)
        if layer.learn_initial_state:
            own = own_states(layer, zeros[0], suffixes)
            return tuple([part.expand(-1, packing.batch, -1) for part in own])
        return zeros
    if len(hx) != len(sizes):
        raise ValueError(f"hx must hold {len(sizes)} states, got {len(hx)}")
    for number, (part, size) in enumerate(zip(hx, sizes)):
        expected = (entries, packing.batch, size)
        if tuple(part.shape) != expected:
            which = "hidden" if len(sizes) == 1 else f"hidden[{number}]"
            raise RuntimeError(f"Expected {which} size {expected}, got {list(part.shape)}")
        if part.device != input.device:
            raise RuntimeError(
                "Input and hidden tensors are not at the same device, found input tensor at "
                f"{input.device} and hidden tensor at {part.device}"
            )
        if part.dtype != input.dtype and not is_autocast(kind):
            raise RuntimeError(
                f"hx[{number}] has dtype {part.dtype}, the input {input.dtype}: convert it, "
                f"hx.to({input.dtype})"
            )
    if halve:
        hx = tuple([part.to(dtype) for part in hx])
    if packing.order is not None:
        refuse_freed(hx)
        hx = tuple([packing.sort(part) for part in hx])
    return tuple(hx)
