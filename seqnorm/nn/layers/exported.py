"""Calls of layers and cells as graphs of torch's own operators, for ONNX and other programs.

Axes: T steps, B sequences, I = input_size, P = size of h (H, or proj_size), L = num_layers,
D = directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backends import onnx_layers, portable
from ..backends.portable import Rows
from ..check import check_first_step
from ..graphs import is_onnx_export
from ..recurrence.int8 import dtype_of
from ..recurrence.packing import Packing
from ..recurrence.step import State
from .given import Lengths, padded
from .initial_states import States, initial_states, own_states
from .resets import check_resets, refuse_unknown_step
from .torch_contract import TorchContract

if TYPE_CHECKING:
    from .cell import RecurrentCell


def export_layer(
    layer: TorchContract,
    input: Any,
    hx: States | None,
    lengths: Lengths,
    first_step: int | Tensor,
    resets: Any,
    padding: bool = True,
) -> tuple[Tensor, States]:
    """Return the output and the final states of a call of a layer, as its ``forward`` does.

    Raises:
        ValueError: a graph cannot compute this layer in its present mode.
    """
    if not padding or not isinstance(input, Tensor) or input.is_nested:
        raise TypeError(
            "an exported graph takes padded input (T, B, I) and lengths, and neither a "
            "PackedSequence nor sequences without padding: torch.nn.utils.rnn.pad_sequence pads"
        )
    check_exportable(layer)
    directions = [direction.in_floats() for direction in layer.directions()]
    x, hx, swapped = padded(layer, input, hx)
    batch, steps, count = x.shape[1], x.shape[0], len(layer.suffixes[0])
    if hx is not None:
        packing = Packing.of_equal_lengths(batch, steps, x.device)
        hx = initial_states(layer, hx, packing, x, layer.suffixes)
    alive = None
    until: Tensor | None = None
    if lengths is not None:
        if input.dim() == 2:
            raise ValueError("lengths belong to a batch: leave lengths=None for unbatched input")
        until = torch.as_tensor(lengths, device=x.device)
        _check_vector("lengths", until, batch)
        alive = torch.arange(steps, device=x.device)[:, None, None] < until[:, None]
    renewed = None
    if resets is not None:
        shape, letters = tuple(input.shape[:-1]), "B, T" if swapped else "T, B"
        resets = check_resets(resets, shape, letters if len(shape) == 2 else "T,")
        resets = resets.to(x.device)
        renewed = (resets.T if swapped else resets.reshape(steps, batch))[..., None]
        renewed = renewed if alive is None else renewed & alive
    first_step = _number(first_step, batch, count > 1)
    if (
        layer.counts_steps
        and resets is not None
        and hx is not None
        and isinstance(first_step, int)
        and first_step == 0
    ):
        refuse_unknown_step(count > 1)
    each = layer.counts_steps and (
        renewed is not None or (isinstance(first_step, Tensor) and first_step.dim() > 0)
    )
    given = [part.split(1) if len(directions) > 1 else (part,) for part in hx or ()]
    initial = own_states(layer, x, layer.suffixes) if hx is None or resets is not None else None
    finals: list[State] = []
    for start in range(0, len(directions), count):
        outputs = []
        for backwards in range(count):
            number = start + backwards
            direction = directions[number]
            own: State = ()
            state: State
            if initial is not None:
                own = tuple([part[number] for part in initial])
            if hx is None and not layer.learn_initial_state:
                state = tuple([x.new_zeros(1, batch, size) for size in layer.state_sizes])
            elif hx is None:
                state = tuple([part.expand(1, batch, -1) for part in own])
            else:
                state = tuple([parts[number] for parts in given])
            if renewed is None and is_onnx_export() and onnx_layers.has(direction):
                output, final = onnx_layers.run(direction, x, until, state, bool(backwards))
            else:
                rows = Rows(x, alive, renewed, first_step, each)
                rows = rows.reversed(alive is not None) if backwards else rows
                output, final = portable.run(direction, rows, state, own)
                output = output.flip(0) if backwards else output
            outputs.append(output)
            finals.append(final)
        x = outputs[0] if count == 1 else torch.cat(outputs, -1)
    if alive is not None:  # padded results between layers are not read
        x = torch.where(alive, x, 0.0)
    states = tuple([torch.cat(parts) for parts in zip(*finals)])
    if input.dim() == 2:
        return x.squeeze(1), tuple([part.squeeze(1) for part in states])
    return x.transpose(0, 1) if swapped else x, states


def export_cell(
    cell: RecurrentCell,
    input: Tensor,
    hx: State | None,
    first_step: int | Tensor | None,
    resets: Tensor | None,
) -> State:
    """Return the new state of a cell, as its ``forward`` does.

    Raises:
        ValueError: a graph cannot compute this cell in its present mode.
    """
    check_exportable(cell)
    direction = cell.direction().in_floats()
    if cell.counts_steps and first_step is None:
        raise ValueError(
            'norm="batch" keeps statistics of every time step: say which one this is, '
            "cell(input, hx, first_step=t), counting from 0"
        )
    x, state, batched = cell.checked(input, hx)
    batch = x.shape[0]
    wanted = dtype_of(cell, "weight_ih")
    if x.dtype != wanted:
        raise ValueError(
            f"the input has dtype {x.dtype}, the weights {wanted}: convert one of them"
        )
    initial = cell.own_state(1, x)
    number = 0 if first_step is None else _number(first_step, batch, False)
    if state is None:
        state = tuple([part.expand(batch, -1) for part in initial])
    renewed = None
    if resets is not None:
        shape = tuple(input.shape[:-1])
        renewed = check_resets(resets, shape, "B," if batched else "").to(x.device).reshape(-1, 1)
    new = portable.run_cell(direction, x, state, initial, number, renewed)
    return new if batched else tuple([part.squeeze(0) for part in new])


def check_exportable(module: Any) -> None:
    """Raise ValueError if a graph cannot compute a layer or cell in its present mode."""
    if module.quantised:
        module._refuse_training()
    cell = not hasattr(module, "suffixes")
    if module.training and not cell and (module.dropout or module.recurrent_dropout):
        raise _refused(module, "dropout draws units in training: call .eval() on the model")
    for direction in [module.direction()] if cell else module.directions():
        reason = portable.refusal(direction)
        if reason is not None:
            raise _refused(module, reason)


def _refused(module: Any, reason: str) -> ValueError:
    return ValueError(f"this {type(module).__name__} cannot be exported: {reason}")


def _number(first_step: Any, batch: Any, bidirectional: bool) -> int | Tensor:
    """Return the number of the first step, checked."""
    if not isinstance(first_step, Tensor):
        return check_first_step(first_step, bidirectional)
    if first_step.dim():
        _check_vector("first_step", first_step, batch)
    elif first_step.is_floating_point() or first_step.dtype == torch.bool:
        raise TypeError(f"first_step must be an integer, got {first_step.dtype}")
    return first_step


def _check_vector(name: str, value: Tensor, batch: Any) -> None:
    """Raise an error unless there is an integer for each sequence."""
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {value.dtype}")
    if value.dim() != 1 or value.shape[0] != batch:
        raise ValueError(f"{name} must have shape (B,) = ({batch},), got {tuple(value.shape)}")
