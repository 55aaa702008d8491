"""ONNX's own LSTM, GRU and RNN, for layers without a norm in graphs for ONNX.

Axes: T steps, B sequences, I inputs, H = hidden_size, G gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ..recurrence.direction import Direction
from ..recurrence.step import Nonlinear, State

# The order of the gates of torch's matrices in ONNX's.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


# True while layers are written as loops, whose matrices can be stored in 8 bits.
_left_out: ContextVar[bool] = ContextVar("_left_out", default=False)


@contextmanager
def left_out() -> Iterator[None]:
    """Export layers as loops, also those that ONNX has."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def has(direction: Direction) -> bool:
    """Return whether a direction is exported as an operator of ONNX."""
    if _left_out.get():
        return False
    plain = not direction.norms and not any(direction.zoneout) and direction.weight_hr is None
    plain = plain and direction.weight_ih.dtype != torch.bfloat16  # which they do not take
    return plain and direction.step.fused is not None and direction.step.name in _GATES


def run(
    direction: Direction, x: Tensor, lengths: Tensor | None, state: State, backwards: bool
) -> tuple[Tensor, State]:
    """Compute outputs (T, B, H), zero in the padding, and the final state (1, B, H).

    Args:
        x: (T, B, I), not reversed.
        lengths: (B,), or ``None`` for sequences of T steps.
        state: (1, B, H) for each part.
        backwards: true to read every sequence from its end.
    """
    step = direction.step
    order = _GATES[step.name]
    size = state[0].shape[-1]
    biases = [
        b if b is not None else direction.weight_ih.new_zeros(len(order) * size)
        for b in (direction.bias_ih, direction.bias_hh)
    ]
    attributes: dict[str, Any] = {
        "hidden_size": size,
        "direction": "reverse" if backwards else "forward",
    }
    if step.name == "GRU":
        attributes["linear_before_reset"] = 1
    if isinstance(step, Nonlinear):
        attributes["activations"] = [step.nonlinearity.capitalize()]
    arguments = (
        x,
        *(_ordered(w, order)[None] for w in (direction.weight_ih, direction.weight_hh)),
        torch.cat([_ordered(b, order) for b in biases])[None],
        None if lengths is None else lengths.clamp(max=x.shape[0]).to(torch.int32),
        *state,
    )
    steps, batch = x.shape[:2]
    shapes = [(steps, 1, batch, size), *[(1, batch, size)] * len(state)]
    output, *final = torch.onnx.ops.symbolic_multi_out(
        step.name, arguments, attributes, dtypes=[x.dtype] * len(shapes), shapes=shapes, version=14
    )
    last = tuple(final)
    if lengths is not None:  # onnxruntime returns zeros for a sequence without steps
        last = tuple(torch.where(lengths[:, None] > 0, new, old) for new, old in zip(last, state))
    return output.squeeze(1), last


def _ordered(rows: Tensor, order: tuple[int, ...]) -> Tensor:
    """Return the gates of a matrix or bias (G * H, ...) in another order."""
    if len(order) == 1:
        return rows
    # One index of constants, which exporters compute beforehand.
    every = torch.arange(rows.shape[0], device=rows.device).unflatten(0, (len(order), -1))
    return rows.index_select(0, torch.stack([every[k] for k in order]).flatten())
