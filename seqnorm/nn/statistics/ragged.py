"""Batches without padding: sequences one after another, or a nested tensor of torch.

Axes: B sequences, N rows, F features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Ragged(NamedTuple):
    """The rows of a batch without padding.

    Attributes:
        values: (N, F).
        starts, lengths: (B,) on the CPU, the row at which each sequence begins, and its rows.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the number (n,) of the sequence, and of its step, of every row of a sequence."""
        sequence = torch.arange(len(self.lengths), device="cpu").repeat_interleave(self.lengths)
        begin = self.lengths.cumsum(0) - self.lengths
        return sequence, torch.arange(len(sequence), device="cpu") - begin[sequence]


def is_ragged(x: Any, cu_seqlens: Any) -> bool:
    """Return whether a batch has no padding."""
    return cu_seqlens is not None or (isinstance(x, Tensor) and x.is_nested)


def ragged(name: str, x: Any, lengths: Any, cu_seqlens: Any) -> Ragged:
    """Return the rows of a batch without padding.

    Args:
        name: the class that takes the batch.
        x: (N, F) with ``cu_seqlens``, or a nested tensor (B, j, F) of the layout jagged.
        lengths: the user's argument, which must be None.
        cu_seqlens: (B + 1,) the row at which each sequence begins, and N; None for a nested tensor.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    nested = isinstance(x, Tensor) and x.is_nested
    if lengths is not None:
        known = "a nested tensor knows its lengths" if nested else "cu_seqlens say where each ends"
        raise ValueError(f"{known}: leave lengths=None")
    if not nested:
        if not isinstance(x, Tensor) or x.dim() != 2:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"{name}: with cu_seqlens the input is (N, features), all sequences one after "
                f"another, got {got}"
            )
        bounds = check_bounds(cu_seqlens, len(x))
        return Ragged(x, bounds[:-1], bounds.diff())
    if cu_seqlens is not None:
        raise ValueError("a nested tensor knows its lengths: leave cu_seqlens=None")
    if x.layout != torch.jagged:
        raise TypeError(
            f"{name} takes a nested tensor of the layout jagged, got {x.layout}: build it by "
            "torch.nested.nested_tensor(sequences, layout=torch.jagged)"
        )
    if x.dim() != 3 or x._ragged_idx != 1:
        raise ValueError(f"{name}: a nested input is (B, j, features), got {tuple(x.shape)}")
    offsets, ends = x.offsets().cpu(), x.lengths()
    return Ragged(x.values(), offsets[:-1], offsets.diff() if ends is None else ends.cpu())


def check_bounds(cu_seqlens: Any, rows: int) -> Tensor:
    """Return ``cu_seqlens`` (B + 1,) as int64 on the CPU.

    Raises:
        TypeError: they are not integers.
        ValueError: they do not begin with 0, decrease, or do not end with the number of rows.
    """
    try:
        found = torch.as_tensor(cu_seqlens, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"cu_seqlens must be integers, got {cu_seqlens!r}") from error
    if not found.numel():
        found = found.to(torch.int64)  # an empty list has no dtype
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


def like(form: Any, values: Tensor) -> Tensor:
    """Return rows (N, F) in the form of a batch without padding: as they are, or nested."""
    if not form.is_nested:
        return values
    if not hasattr(torch.nested, "nested_tensor_from_jagged"):
        raise NotImplementedError(
            f"nested tensors need torch 2.4 or later, and this is {torch.__version__}: give the "
            "rows one after another, with cu_seqlens"
        )
    found: Tensor = torch.nested.nested_tensor_from_jagged(
        values, offsets=form.offsets(), lengths=form.lengths()
    )
    return found
