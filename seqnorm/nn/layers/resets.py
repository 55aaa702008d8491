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
from ..recurrence.packing import Packing
from ..recurrence.step import State
from ..statistics.masks import check_lengths
from ..statistics.ragged import is_ragged, like, ragged


def anew(states: State, own: State, where: Tensor) -> State:
    """Return states (..., F) that begin with ``own`` values where told (...)."""
    return tuple(
        [torch.where(where[..., None], new.to(old.dtype), old) for new, old in zip(own, states)]
    )


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
        if not shape:
            raise ValueError(
                f"resets of unbatched input must be one boolean, of shape (), got "
                f"{tuple(resets.shape)}"
            )
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


def rows_of_resets(resets: Any, input: Any) -> Any:
    """Return resets (N,) of the rows of a ``PackedSequence`` or a nested tensor, others unchanged.

    Raises:
        ValueError: their form is not that of the input.
    """
    if isinstance(resets, PackedSequence):
        fits = isinstance(input, PackedSequence) and _same(
            (input.batch_sizes, input.sorted_indices), (resets.batch_sizes, resets.sorted_indices)
        )
        found: Any = resets.data
    elif isinstance(resets, Tensor) and resets.is_nested:
        nested: Any = resets
        fits = isinstance(input, Tensor) and input.is_nested
        fits = fits and _same(
            (input.offsets(), input.lengths()), (nested.offsets(), nested.lengths())
        )
        found = nested.values()
    else:
        return resets
    if not fits:
        raise ValueError(
            "resets in the form of a PackedSequence or a nested tensor need an input of the same "
            "form and lengths, because their rows have its order: give them in the form of the "
            "input"
        )
    return found


def _same(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> bool:
    return all(
        (a is None) == (b is None) and (a is None or b is None or torch.equal(a.cpu(), b.cpu()))
        for a, b in zip(one, other)
    )


def check_first_steps(first_step: Any, batch: int, bidirectional: bool) -> int | Tensor:
    """Return the number of the first step of all sequences, or (B,) one of each, on the CPU.

    Raises:
        TypeError, ValueError: They are not integers from 0 on, there are not B of them, or the
            layer is bidirectional and one is not 0.
    """
    if not isinstance(first_step, Tensor) and getattr(first_step, "__len__", None) is not None:
        try:
            first_step = torch.as_tensor(first_step)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"first_step must hold integers, got {first_step!r}") from error
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


def refuse_unknown_step(bidirectional: bool) -> NoReturn:
    """Raise the error of a state whose step the statistics of every step would need."""
    instead = (
        "give the numbers of steps that each sequence has had since its last reset, "
        "first_step=(B,) integers, which seqnorm.steps_since_reset computes, or leave hx=None "
        "where sequences begin"
    )
    if bidirectional:
        instead = "leave hx=None, or first_step=torch.zeros(B, dtype=int) if all begin at step 0"
    raise ValueError(
        "BatchNorm's statistics of every step count from each reset, and hx goes on at a step that "
        f"the layer does not know: {instead}"
    )


def steps_since_reset(
    resets: Tensor | PackedSequence,
    first_step: int | Tensor = 0,
    lengths: Tensor | Sequence[int] | None = None,
    *,
    batch_first: bool = False,
    cu_seqlens: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """Return the number of steps (B,) of every sequence since its last reset.

    It is the ``first_step`` of the next call, which goes on from the final state of this one.

    >>> resets = torch.tensor([[False, True], [True, False], [False, False]])  # (T, B)
    >>> steps_since_reset(resets, first_step=4)
    tensor([2, 3])

    Args:
        resets: boolean, in any form that a layer takes: (T, B), or (B, T) with ``batch_first``;
            (T,) of an unbatched sequence; a ``PackedSequence``; (N,) with ``cu_seqlens``; or a
            nested tensor (B, j) of the layout jagged.
        first_step: An integer, or (B,) integers: the steps since the last reset before this call.
        lengths: (B,) integers in 0..T of padded sequences; T if None.
        batch_first: True if padded ``resets`` are (B, T).
        cu_seqlens: (B + 1,) the row at which each sequence begins, and N.

    Returns:
        (B,) integers, or () of an unbatched sequence.

    Raises:
        TypeError, ValueError: A shape, a dtype or a number is wrong.
    """
    flags, step, sequence, ends = _places(resets, lengths, batch_first, cu_seqlens)
    alone = isinstance(resets, Tensor) and resets.dim() == 1 and cu_seqlens is None
    if alone and isinstance(first_step, Tensor) and first_step.numel() != 1:
        raise ValueError(
            f"resets of shape {tuple(flags.shape)} are those of one sequence without a batch, but "
            f"first_step has {first_step.numel()} numbers: write resets[None] if they are one step "
            "of every sequence"
        )
    before = torch.as_tensor(check_first_steps(first_step, len(ends), False), device=flags.device)
    seen = torch.where(flags, step, -1)
    last = torch.full_like(ends, -1).scatter_reduce(0, sequence, seen, "amax")
    found = torch.where(last < 0, before + ends, ends - last)
    return found[0] if alone else found


def _places(
    resets: Any, lengths: Any, batch_first: bool, cu_seqlens: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the resets (N,), the steps and sequences (N,) to which they belong, and lengths (B,).

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    packed = isinstance(resets, PackedSequence)
    if not packed and not is_ragged(resets, cu_seqlens):
        return _places_in_padded(resets, lengths, batch_first)
    if packed:
        for name, value in (("lengths", lengths), ("cu_seqlens", cu_seqlens)):
            if value is not None:
                raise ValueError(f"a PackedSequence knows its lengths: leave {name}=None")
        packing = Packing.from_packed(resets)
        step, sequence = packing.places()
        if packing.order is not None:
            sequence = packing.order.cpu()[sequence]
        flags = check_resets(resets.data, (len(step),), "N,")
        ends = torch.bincount(sequence, minlength=packing.batch)
    else:
        if not (isinstance(resets, Tensor) and resets.is_nested):
            check_resets(resets, tuple(getattr(resets, "shape", ())[:1]), "N,")
            column = resets[:, None]
        elif resets.layout != torch.jagged or resets.dim() != 2:
            raise ValueError(
                "nested resets must be (B, j) with the layout jagged, "
                f"got {resets.dim()} axes and {resets.layout}"
            )
        else:
            column = like(resets, resets.values()[:, None])
        rows = ragged("steps_since_reset", column, lengths, cu_seqlens)
        sequence, step = rows.places()
        flags = check_resets(rows.values[:, 0], (len(rows.values),), "N,")
        flags = flags[(rows.starts[sequence] + step).to(flags.device)]
        ends = rows.lengths
    device = flags.device
    return flags, step.to(device), sequence.to(device), ends.to(device)


def _places_in_padded(
    resets: Any, lengths: Any, batch_first: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same of padded sequences, or of one without a batch; padding has no resets."""
    axes = "B, T" if batch_first else "T, B"
    if not isinstance(resets, Tensor) or resets.dim() not in (1, 2):
        got = tuple(resets.shape) if isinstance(resets, Tensor) else type(resets).__name__
        raise ValueError(
            f"resets must be a Tensor ({axes}) of padded sequences, (T,) of one sequence, or a "
            f"PackedSequence, got {got}"
        )
    if resets.dim() == 1:
        if lengths is not None:
            raise ValueError("lengths belong to a batch: leave lengths=None for resets (T,)")
        resets, batch_first, axes = resets[:, None], False, "T, B"
    resets = check_resets(resets, tuple(resets.shape), axes)
    resets = resets.T if batch_first else resets
    (steps, batch), device = resets.shape, resets.device
    if lengths is None:
        ends = torch.full((batch,), steps, device=device)
    else:
        ends = check_lengths(lengths, batch, steps, batch_first).to(device)
    step = torch.arange(steps, device=device)[:, None].expand(steps, batch)
    sequence = torch.arange(batch, device=device).expand(steps, batch)
    valid = resets & (step < ends)
    return valid.flatten(), step.flatten(), sequence.flatten(), ends
