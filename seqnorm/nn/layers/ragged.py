"""Batches without padding: sequences one after another, or a nested tensor of torch.

Axes: B sequences, N rows, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..recurrence.packing import Documents


def documents(layer: Any, input: Any, lengths: Any, cu_seqlens: Any) -> tuple[Tensor, Documents]:
    """Return the rows (N, I) of a batch without padding, and their packing.

    Args:
        layer: the layer.
        input: (N, I) with ``cu_seqlens``, or a nested tensor (B, j, I) of the layout jagged.
        lengths: the user's argument, which must be None.
        cu_seqlens: (B + 1,) the row at which each sequence begins, and N; None for a nested tensor.

    Raises:
        TypeError, ValueError, RuntimeError: an argument is wrong.
    """
    name = type(layer).__name__
    nested = isinstance(input, Tensor) and input.is_nested
    if lengths is not None:
        known = "a nested tensor knows its lengths" if nested else "cu_seqlens say where each ends"
        raise ValueError(f"{known}: leave lengths=None")
    if not nested:
        if not isinstance(input, Tensor) or input.dim() != 2:
            got = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
            raise ValueError(
                f"{name}: with cu_seqlens the input is (N, I), all sequences one after another, "
                f"got {got}"
            )
        layer._check_input(input, 2)
        bounds = check_bounds(cu_seqlens, len(input))
        return input, Documents(bounds[:-1], bounds.diff(), input.device)
    if cu_seqlens is not None:
        raise ValueError("a nested tensor knows its lengths: leave cu_seqlens=None")
    if input.layout != torch.jagged:
        raise TypeError(
            f"{name} takes a nested tensor of the layout jagged, got {input.layout}: build it by "
            "torch.nested.nested_tensor(sequences, layout=torch.jagged)"
        )
    if input.dim() != 3 or input._ragged_idx != 1:
        raise ValueError(f"{name}: a nested input is (B, j, I), got {tuple(input.shape)}")
    values, offsets, ends = input.values(), input.offsets().cpu(), input.lengths()
    layer._check_input(values, 2)
    return values, Documents(
        offsets[:-1], offsets.diff() if ends is None else ends.cpu(), values.device
    )


def check_bounds(cu_seqlens: Any, rows: int) -> Tensor:
    """Return ``cu_seqlens`` (B + 1,) as int64 on the CPU.

    Raises:
        TypeError: they are not integers.
        ValueError: they do not begin with 0, decrease, or do not end with the number of rows.
    """
    found = torch.as_tensor(cu_seqlens, device="cpu")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"cu_seqlens must be integers, got {found.dtype}")
    found = found.to(torch.int64)
    if found.dim() != 1 or not len(found):
        raise ValueError(
            "cu_seqlens must have shape (B + 1,), the row at which each of B sequences begins and "
            f"the number of rows, got {tuple(found.shape)}"
        )
    if int(found[0]) != 0 or int(found[-1]) != rows or bool((found.diff() < 0).any()):
        raise ValueError(
            f"cu_seqlens must rise from 0 to the {rows} rows of the input, got {found.tolist()}: "
            "they are the sums of lengths, torch.nn.functional.pad(lengths.cumsum(0), (1, 0))"
        )
    return found


def values_of(form: Any) -> Tensor:
    """Return the rows of a batch without padding."""
    found: Tensor = form.values() if form.is_nested else form
    return found


def like(form: Any, values: Tensor) -> Tensor:
    """Return rows in the form of the input: as they are, or as a nested tensor."""
    if not form.is_nested:
        return values
    if not hasattr(torch.nested, "nested_tensor_from_jagged"):
        raise NotImplementedError(
            f"nested tensors need torch 2.4 or later, got {torch.__version__}"
        )
    found: Tensor = torch.nested.nested_tensor_from_jagged(
        values, offsets=form.offsets(), lengths=form.lengths()
    )
    return found
