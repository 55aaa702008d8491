"""The short way of inference, by a prepared call of the kernels, and when it is taken.

Axes: T steps, B sequences, I = input_size, H = hidden_size, P = size of h (H, or proj_size),
L = num_layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import backends
from ..backends.cpu.prepared import Prepared, can_prepare, is_plain_inference
from ..backends.cpu.states import MOST, apart, joined
from ..recurrence.step import State
from .initial_states import own_states
from .resets import anew
from .torch_contract import TorchContract, TorchTools

if TYPE_CHECKING:
    from .cell import RecurrentCell

_PLAIN = (Tensor, nn.Parameter)


def infer_layer(
    layer: TorchContract, input: Any, hx: Any, first_step: Any, resets: Any = None
) -> tuple[Tensor, State] | None:
    """Return the output and the final state of a layer, or None if it takes the usual way.

    Args:
        layer: The layer.
        input: (T, B, I), (B, T, I) with batch_first, or (T, I).
        hx: (L, B, P), or (L, B, P) and (L, B, H), without B for input (T, I); zeros if None.
        first_step: The number of the first step.
        resets: (T, B), (B, T) or (T,); none may be beyond the first step.
    """
    if layer.bidirectional or layer.chunks is not None:
        return None
    if layer.training and (layer.dropout or layer.recurrent_dropout or any(layer.zoneout)):
        return None  # it draws units
    if hx is None and layer.learn_initial_state and type(input) in _PLAIN:
        hx = _learned(layer, input)
    prepared = _prepared_call(layer, input, hx, first_step)
    if prepared is None or prepared.zoneout != layer.zoneout:
        return None
    shape = input.shape
    swapped = False
    if len(shape) == 3:
        steps, batch, width = shape
        if layer.batch_first:
            steps, batch = batch, steps
            swapped = steps > 1 and batch > 1  # else both orders are the same in memory
        final: tuple[int, ...] = layer.num_layers, batch
    elif len(shape) == 2:
        (steps, width), batch = shape, 1
        final = (layer.num_layers,)
    else:
        return None
    of_h = (*final, layer.state_sizes[0])
    shapes = of_h, (*final, layer.state_sizes[-1])
    if resets is not None:
        first = _first_resets(layer, input, resets)
        if first is None:
            return None
        if hx is not None:
            own = own_states(layer, input, layer.suffixes)
            if len(final) == 1:
                own = tuple([part[:, 0] for part in own])
            if not _fits(hx, own, shapes):
                return None
            hx = anew(hx, own, first)
    states = _states(layer, input, hx, shapes) if width == layer.input_size else None
    if states is None:
        return None
    old, new = states
    if swapped:
        input = input.transpose(0, 1)
    wanted = (*input.shape[:-1], of_h[-1])
    output = torch.empty_like(new[0]) if wanted == of_h else input.new_empty(wanted)
    if not prepared.run(input.contiguous(), old, steps, batch, first_step, output, new):
        return None
    return output.transpose(0, 1) if swapped else output, apart(new, layer.step)


def _first_resets(layer: TorchContract, input: Tensor, resets: Any) -> Tensor | None:
    """Return the resets (B,) or () before the first step, or None if there are others.

    None stands for wrong arguments too, and for statistics that count steps.
    """
    if type(resets) is not Tensor or resets.dtype is not torch.bool or not resets.is_cpu:
        return None
    if layer.counts_steps or resets.shape != input.shape[:-1] or not resets.numel():
        return None
    time = 1 if layer.batch_first and resets.dim() == 2 else 0
    steps = resets.shape[time]
    if steps > 1 and bool(resets.narrow(time, 1, steps - 1).any()):
        return None
    return resets.select(time, 0)


def _fits(hx: State, own: State, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether a state has all parts, of these shapes."""
    return [part.shape for part in hx] == [shapes[0], *[shapes[1]] * (len(own) - 1)]


def infer_cell(
    cell: RecurrentCell, input: Any, hx: Any, first_step: Any, resets: Any = None
) -> State | None:
    """Return the new state of a cell, or None if it takes the usual way.

    Args:
        cell: The cell.
        input: (B, I) or (I,).
        hx: (B, H) or (H,) for each part of the state; zeros if None.
        first_step: The number of the step.
        resets: (B,) or ().
    """
    if hx is None and cell.learn_initial_state and type(input) in _PLAIN and input.dim() in (1, 2):
        hx = cell.own_state(len(input) if input.dim() == 2 else None, input)
    prepared = _prepared_call(cell, input, hx, first_step)
    if prepared is None or not 1 <= input.dim() <= 2 or input.shape[-1] != cell.input_size:
        return None
    shape = (*input.shape[:-1], cell.hidden_size)
    if resets is not None:
        if type(resets) is not Tensor or resets.dtype is not torch.bool or not resets.is_cpu:
            return None
        if cell.counts_steps or resets.shape != shape[:-1]:
            return None
        if hx is not None:
            own = cell.own_state(None, input)
            if not _fits(hx, own, (shape, shape)):
                return None
            hx = anew(hx, own, resets)
    states = _states(cell, input, hx, (shape, shape))
    if states is None:
        return None
    old, new = states
    batch = shape[0] if len(shape) == 2 else 1
    done = prepared.run(input.contiguous(), old, 1, batch, first_step, new[0], new)
    return apart(new, cell.step) if done else None


def _learned(layer: TorchContract, input: Tensor) -> State | None:
    """Return the learned states for an input (T, B, I), (B, T, I) with batch_first, or (T, I)."""
    own = own_states(layer, input, layer.suffixes)
    if input.dim() == 2:
        return tuple([part[:, 0] for part in own])
    batch = input.shape[0 if layer.batch_first else 1] if input.dim() == 3 else 1
    return tuple([part.expand(-1, batch, -1) for part in own])


def _prepared_call(module: TorchTools, input: Any, hx: Any, first_step: Any) -> Prepared | None:
    """Return the prepared call of a layer or cell, or None if it needs the usual way.

    Nothing may record, trace or transform operations, or ask for another backend. The input, the
    state and the parameters must be plain tensors on the CPU, of one dtype. Everything else, errors
    too, is left to the usual way. ``Prepared.run`` refuses autocast to other dtypes.
    """
    if module.norm is None and module.step.fused is not None and not module.quantised:
        return None  # torch's own layer
    if not is_plain_inference() or not backends.allows_cpu():
        return None
    if type(first_step) is not int or first_step < 0:
        return None
    if type(input) not in _PLAIN:
        return None
    dtype, strided = input.dtype, torch.strided
    for tensor in (input,) if hx is None else (input, *hx):
        if type(tensor) not in _PLAIN or tensor.dtype is not dtype or not tensor.is_cpu:
            return None
        if tensor.layout is not strided or tensor.is_neg() or not tensor.data_ptr():
            return None
    prepared = module._prepared
    if prepared is None or not prepared.holds_for(module):
        directions = module.directions()
        # An old one is not kept, because its addresses may come back with other tensors.
        prepared = module._prepared = Prepared(directions) if can_prepare(directions) else None
        if prepared is None or not prepared.holds_for(module):
            return None
    return prepared if dtype is prepared.dtype else None


def _states(
    module: TorchTools, input: Tensor, hx: State | None, shapes: Sequence[tuple[int, ...]]
) -> tuple[State | None, State] | None:
    """Return the old state, contiguous, and an empty new one; None if a shape is wrong.

    Both have the form that the kernels take.

    Args:
        module: The layer or cell.
        input: Of the dtype of the state.
        hx: The old state; zeros if None.
        shapes: The shapes of h and of each other part.
    """
    count = len(module.step.states)
    if hx is None:
        if count > MOST:
            *batch, size = shapes[1]
            shapes = shapes[0], (*batch, (count - 1) * size)
        return None, tuple([input.new_empty(shape) for shape in shapes[:count]])
    if len(hx) != count:
        return None
    shape = shapes[0]
    for part in hx:
        if part.shape != shape:
            return None
        shape = shapes[1]
    old: State = ()
    new: State = ()
    for part in joined(hx):
        part = part.contiguous()
        old += (part,)
        new += (torch.empty_like(part),)  # faster than by a shape
    return old, new
