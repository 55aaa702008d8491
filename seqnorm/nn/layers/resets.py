"""Resets: steps before which a sequence begins anew, and the numbers of steps that count from them.

Axes: T steps, B sequences, N packed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..check import check_first_step
from ..statistics.masks import check_lengths


def check_resets(resets: Any, shape: tuple[int, ...], letters: str) -> Tensor:
    """Return the resets as a boolean tensor.

    Args:
        resets: The user's argument.
        shape: The shape that it must have.
        letters: The axes of that shape, such as "T, B".

    Raises:
        TypeError: ``resets`` are not a boolean tensor.
        ValueError: Their shape is another one.
    """
    meaning = "true where the state before a step is the initial one"
    if isinstance(resets, PackedSequence):
        resets = resets.data
    elif isinstance(resets, Tensor) and resets.is_nested:
        resets = resets.values()
    if not isinstance(resets, Tensor):
        raise TypeError(
            f"resets must be a boolean Tensor ({letters}), {meaning}, got "
            f"{type(resets).__name__}: write torch.as_tensor(resets, dtype=torch.bool)"
        )
    if resets.dtype != torch.bool:
        raise TypeError(
            f"resets must be boolean, {meaning}, got {resets.dtype}: write resets.bool()"
        )
    if tuple(resets.shape) != shape:
        hint = ""
        if tuple(resets.shape) == (*shape, 1):
            hint = ": write resets.squeeze(-1)"
        elif len(shape) == 2 and tuple(resets.shape) == shape[::-1]:
            hint = ": write resets.T"
        raise ValueError(
            f"resets must have shape ({letters}) = {shape}, one for each step of each sequence, "
            f"got {tuple(resets.shape)}{hint}"
        )
    return resets


def check_first_steps(first_step: Any, batch: int, bidirectional: bool) -> int | Tensor:
    """Return the number of the first step of all sequences, or (B,) one of each, on the CPU.

    Raises:
        TypeError, ValueError: They are not integers from 0 on, there are not B of them, or the
            layer is bidirectional and one is not 0.
    """
    if not isinstance(first_step, Tensor) or first_step.dim() == 0:
        return check_first_step(first_step, bidirectional)
    if first_step.is_floating_point() or first_step.is_complex() or first_step.dtype == torch.bool:
        raise TypeError(f"first_step must hold integers, got {first_step.dtype}")
    if tuple(first_step.shape) != (batch,):
        raise ValueError(
            f"first_step must be an integer or have shape ({batch},), one for each sequence of the "
            f"batch, got {tuple(first_step.shape)}"
        )
    found = first_step.to("cpu", torch.int64)
    for number in (found.amin(), found.amax()) if batch else ():
        check_first_step(int(number), bidirectional)
    return found


def refuse_unknown_step() -> NoReturn:
    """Raise the error of a state whose step the statistics of every step would need."""
    raise ValueError(
        'norm="batch" has statistics of every step, which count from each reset, and hx goes on at '
        "a step that the layer does not know: give the numbers of steps that each sequence has had "
        "since its last reset, first_step=(B,) integers, or leave hx=None where sequences begin; "
        "seqnorm.steps_since_reset computes them"
    )


def steps_since_reset(
    resets: Tensor,
    first_step: int | Tensor = 0,
    lengths: Tensor | Sequence[int] | None = None,
    *,
    batch_first: bool = False,
) -> Tensor:
    """Return the number of steps (B,) of every sequence since its last reset.

    It is the ``first_step`` of the next call, which goes on from the final state of this one.

    >>> resets = torch.tensor([[False, True], [True, False], [False, False]])  # (T, B)
    >>> steps_since_reset(resets, first_step=4)
    tensor([2, 3])

    Args:
        resets: (T, B), or (B, T) with ``batch_first``, boolean.
        first_step: An integer, or (B,) integers: the steps since the last reset before this call.
        lengths: (B,) integers in 0..T; T if None.
        batch_first: True if ``resets`` are (B, T).

    Raises:
        TypeError, ValueError: A shape, a dtype or a number is wrong.
    """
    axes = "B, T" if batch_first else "T, B"
    if isinstance(resets, Tensor) and resets.dim() != 2:
        raise ValueError(f"resets must be ({axes}), got {tuple(resets.shape)}")
    resets = check_resets(resets, tuple(getattr(resets, "shape", ())), axes)
    resets = resets.T if batch_first else resets
    steps, batch = resets.shape
    device = resets.device
    before = torch.as_tensor(check_first_steps(first_step, batch, False), device=device)
    if lengths is None:
        ends = torch.full((batch,), steps, device=device)
    else:
        ends = check_lengths(lengths, batch, steps, batch_first).to(device)
    number = torch.arange(steps, device=device)[:, None]
    seen = torch.where(resets & (number < ends), number, -1)
    last = torch.cat([seen, seen.new_full((1, batch), -1)]).amax(0)
    return torch.where(last < 0, before + ends, ends - last)
