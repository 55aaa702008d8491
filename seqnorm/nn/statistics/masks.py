"""Masks of the valid positions of padded sequences, signals and images.

Axes: N examples (of sequences B), C channels, then positions: L, or H and W, or D, H, W (or T).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from ..check import have_values

Sizes = Union[Tensor, Sequence[int], Sequence[Sequence[int]]]


def size_mask(
    sizes: Sizes, shape: Sequence[int], device: torch.device | str | None = None
) -> Tensor:
    """Return a boolean mask ``(N, 1, *shape)``, true where a position lies within its example.

    >>> size_mask([[1, 2], [2, 1]], (2, 3)).int().tolist()
    [[[[1, 1, 0], [0, 0, 0]]], [[[1, 0, 0], [1, 0, 0]]]]

    Args:
        sizes: (N, d) whole numbers, such as the height and width of images; or (N,) for signals.
        shape: the d sizes to which the batch is padded, ``x.shape[2:]``.
        device: device of the result; by default that of ``sizes``.

    Raises:
        TypeError: ``sizes`` are not whole numbers.
        ValueError: ``sizes`` are not (N, d), or one is negative or beyond ``shape``.
    """
    shape = tuple(shape)
    given = sizes if isinstance(sizes, Tensor) else torch.tensor(sizes)
    if not isinstance(sizes, Tensor) and not given.numel():
        given = torch.zeros(0, len(shape), dtype=torch.int64)
    if given.dtype.is_floating_point or given.dtype.is_complex or given.dtype == torch.bool:
        raise TypeError(f"sizes must be whole numbers, got {given.dtype}")
    if given.dim() == 1 and len(shape) == 1:
        given = given[:, None]
    if given.dim() != 2 or given.shape[1] != len(shape):
        raise ValueError(
            f"sizes must be (N, {len(shape)}) for the padded shape {shape}, "
            f"got {tuple(given.shape)}"
        )
    given = given.to(device, torch.int64)  # a shape may be beyond uint8
    if bool(((given < 0) | (given > given.new_tensor(shape))).any()):
        raise ValueError(f"sizes must lie within the padded shape {shape}, got {given.tolist()}")
    mask = torch.ones(len(given), 1, *shape, dtype=torch.bool, device=given.device)
    for axis, size in enumerate(shape):
        inside = torch.arange(size, device=given.device) < given[:, axis, None]
        mask &= inside.reshape(len(given), *[1] * (axis + 1), size, *[1] * (len(shape) - axis - 1))
    return mask


def position_mask(mask: Tensor | None, x: Tensor, axis: int = 1) -> Tensor | None:
    """Expand a mask to one entry for each position of x, shared by its channels; None stays None.

    Args:
        mask: boolean, broadcastable to x with length 1 at the channels' axis, or without that axis.
        x: (N, C, *), or with its channels at ``axis``.

    Returns:
        The mask (N, 1, *), with length 1 at the channels' axis and the shape of x elsewhere.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: the mask does not fit x.
    """
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, true where x is valid, got {mask.dtype}")
    wanted = list(x.shape)
    wanted[axis] = 1
    whole = mask.unsqueeze(axis) if mask.dim() == x.dim() - 1 else mask
    if whole.dim() != x.dim() or any(
        have != 1 and have != n for have, n in zip(whole.shape, wanted)
    ):
        without = tuple(n for j, n in enumerate(wanted) if j != axis)
        raise ValueError(
            f"mask must be {tuple(wanted)} or {without} for x {tuple(x.shape)}, "
            f"got {tuple(mask.shape)}"
        )
    return whole.expand(wanted)


def most_valid(mask: Tensor | None, x: Tensor, dims: Sequence[int]) -> float:
    """Return the largest number of valid positions in a set that spans the axes ``dims`` of x.

    It is infinite if the mask has no readable values (traced, or on ``meta``).
    """
    if x.numel() == 0:
        return 0
    if mask is None:
        return math.prod([x.shape[dim] for dim in dims])
    if not have_values((mask,)):
        return math.inf
    return int(mask.sum(tuple(dims)).max())


def check_lengths(
    lengths: Tensor | Sequence[int], batch: int, steps: int, batch_first: bool | None = None
) -> Tensor:
    """Return the lengths as an int64 tensor (B,).

    Args:
        batch_first: the layer's option of that name, if it has one; the error may propose to
            change it.

    Raises:
        TypeError: ``lengths`` are not integers.
        ValueError: there are not B of them, or one lies outside 0..steps (in a compiled graph a
            RuntimeError).
    """
    try:
        on = lengths.device if isinstance(lengths, Tensor) else "cpu"
        tensor = torch.as_tensor(lengths, device=on)
    except (TypeError, ValueError, RuntimeError) as error:
        states = isinstance(lengths, (list, tuple)) and any(isinstance(x, Tensor) for x in lengths)
        shown = f"a {type(lengths).__name__} of tensors: is it hx?" if states else repr(lengths)
        raise TypeError(f"lengths must be integers, got {shown}") from error
    if not isinstance(lengths, Tensor) and tensor.numel() == 0:
        tensor = tensor.to(torch.int64)  # an empty list has no dtype
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, got {tensor.dtype}")
    if tensor.shape != (batch,):
        hint = ""
        if batch_first is not None and tensor.shape == (steps,):
            layout, other = ("(T, B, I)", False) if batch_first else ("(B, T, I)", True)
            hint = (
                f", as many as the input has steps: if it is {layout}, build the layer with "
                f"batch_first={other}"
            )
        raise ValueError(
            f"lengths must have shape ({batch},), one for each sequence of the batch, "
            f"got {tuple(tensor.shape)}{hint}"
        )
    tensor = tensor.to(torch.int64)
    wrong = (tensor < 0) | (tensor > steps)
    if torch.compiler.is_compiling():
        torch._assert_async(~wrong.any(), "every length must lie in 0..T, T steps of the input")
        return tensor
    if bool(wrong.any()):
        position = int(wrong.nonzero()[0])
        raise ValueError(
            f"lengths[{position}] is {int(tensor[position])}, but the padded input has {steps} "
            f"steps: every length must lie in 0..{steps}"
        )
    return tensor


def valid_mask(lengths: Tensor, steps: int) -> Tensor:
    """Return a boolean mask (B, T), true at the steps that a sequence has."""
    return torch.arange(steps, device=lengths.device)[None, :] < lengths[:, None]
