"""Packed rows: the canonical form of a batch of sequences of different lengths.

B sequences are sorted by length, the longest first. All their frames stand in one matrix of
N = sum(lengths) rows: those of step 0, then those of step 1, and so on; ``batch_sizes[t]``
sequences reach step t. The rows alive at a step are a prefix of the rows alive before it, so a time
loop only shortens its state. Padding costs nothing and cannot leak. This is the layout of
``torch.nn.utils.rnn.PackedSequence``, extended to sequences of length zero.

Axes: T steps, B sequences, N rows, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class Piece(NamedTuple):
    """Consecutive steps of the sequences that have begun before them.

    Attributes:
        rows: the packed rows.
        packing: their packing.
        members: (b,) numbers of the sequences, in the order of that packing.
    """

    rows: slice
    packing: Packing
    members: Tensor


class Packing:
    """The order of the rows of a batch, built once and used by every layer.

    Without padding, B and T may be symbols of a traced graph: ``batch_sizes`` fixes them, ``sizes``
    does not.

    Args:
        batch: B, sequences of length zero included.
        steps: T, without padding.
        batch_sizes: number of sequences that reach each step; ``None`` if all reach all steps.
        order: (B,) position in the user's batch of the b-th longest sequence; ``None`` if sorted.
        device: device of the indices.

    Attributes:
        first: number of step 0 within the whole sequences, of which this may be a later part.
            BatchNorm's statistics of every step count from there.
        totals: rows of every step in all processes that share statistics; ``None`` if none do.
        pieces: packings of consecutive steps, if one packing of all steps cannot have the rows.
    """

    first = 0
    totals: list[int] | None = None
    pieces: Sequence[Piece] = ()

    def __init__(
        self,
        batch: int,
        steps: int,
        batch_sizes: list[int] | None,
        order: Tensor | None,
        device: torch.device,
    ) -> None:
        self.batch = batch
        self.steps = steps
        self.order = order
        self.device = device
        self.uniform = not batch_sizes or batch_sizes[-1] == batch
        self._batch_sizes = batch_sizes
        self._index: Tensor | None = None
        self._reversal: Tensor | None = None

    @classmethod
    def of_equal_lengths(cls, batch: int, steps: int, device: torch.device) -> Packing:
        """Return the packing of a batch of equal lengths."""
        return cls(batch, steps, None, None, device)

    @classmethod
    def from_packed(cls, packed: PackedSequence) -> Packing:
        """Return the packing of a ``PackedSequence``.

        Raises:
            ValueError: its parts do not fit together, so torch did not make it.
        """
        sizes, order = packed.batch_sizes.tolist(), packed.sorted_indices
        batch, rows = sizes[0] if sizes else 0, len(packed.data)
        if not never_grow(batch, sizes) or sum(sizes) != rows:
            raise ValueError(
                "batch_sizes of a PackedSequence must be positive, must not grow, and must add up "
                f"to the {rows} rows of its data, got {sizes}: make it by "
                "torch.nn.utils.rnn.pack_padded_sequence"
            )
        if order is not None and len(order) != batch:
            raise ValueError(
                f"sorted_indices of a PackedSequence must name each of its {batch} sequences, got "
                f"{len(order)} indices"
            )
        return cls(batch, len(sizes), sizes, order, packed.data.device)

    @classmethod
    def from_lengths(cls, lengths: Tensor, device: torch.device) -> Packing:
        """Return the packing of a padded batch; lengths (B,) in any order."""
        lengths = lengths.cpu()
        ordered, order = torch.sort(lengths, descending=True, stable=True)
        sizes = rows_of_steps(lengths)
        moved = None if ordered.equal(lengths) else order
        return cls(len(ordered), len(sizes), sizes, moved, device)

    def among(self, totals: list[int]) -> Packing:
        """Return the packing of these rows with the steps of the longest batch of any process."""
        sizes = self.batch_sizes + [0] * (len(totals) - len(self.batch_sizes))
        packing = Packing(self.batch, len(totals), sizes, self.order, self.device)
        packing.first, packing.totals = self.first, totals
        return packing

    def flat(self, rows: Tensor) -> Tensor:
        """Return rows (N, F) in the order of the sequences' packing."""
        return rows

    @property
    def empty(self) -> bool:
        """True if there are no rows."""
        return self.batch == 0 or self.steps == 0

    @property
    def batch_sizes(self) -> list[int]:
        """Number of sequences that reach each step; empty without rows."""
        if self._batch_sizes is None:
            self._batch_sizes = [self.batch] * self.steps if self.batch else []
        return self._batch_sizes

    def sizes(self, rows: Tensor) -> Tensor:
        """Return ``batch_sizes`` as a tensor (T,) on the CPU, fake if the rows are."""
        if self.uniform and not self.empty:  # B and T may be symbols
            return rows.new_full((self.steps,), self.batch, dtype=torch.int64, device="cpu")
        return rows.new_tensor(self.batch_sizes, dtype=torch.int64, device="cpu")

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the step (N,) of every packed row and the number (N,) of its sequence."""
        sizes = torch.tensor(self.batch_sizes, dtype=torch.int64, device="cpu")
        step = torch.arange(len(sizes), device="cpu").repeat_interleave(sizes)
        return step, torch.arange(len(step), device="cpu") - (sizes.cumsum(0) - sizes)[step]

    def _padded_index(self) -> Tensor:
        """Return the position (N,) of every packed row in a time-major padded batch (T * B)."""
        if self._index is None:
            step, column = self.places()
            if self.order is not None:
                column = self.order.cpu()[column]
            self._index = step * self.batch + column
            if self._index.device != self.device:
                self._index = on_device(self._index, self.device)
        return self._index

    def parts(self, steps: int) -> list[tuple[slice, Packing]]:
        """Divide the batch into consecutive parts of at most ``steps`` steps.

        Returns:
            The packed rows of each part and their packing. Sequences that ended before a part are
            not in it.
        """
        found, row = [], 0
        for start in range(0, self.steps, steps):
            sizes = self.batch_sizes[start : start + steps]
            part = Packing(sizes[0], len(sizes), sizes, None, self.device)
            part.first = self.first + start
            found.append((slice(row, row := row + sum(sizes)), part))
        return found

    def pack(self, padded: Tensor) -> Tensor:
        """Convert a padded batch (T', B, F), T' >= T, to rows (N, F). The padding is not read."""
        if self.uniform and self.order is None and padded.shape[0] == self.steps:
            return padded.reshape(-1, padded.shape[-1])
        return padded.reshape(-1, padded.shape[-1]).index_select(0, self._padded_index())

    def pad(self, rows: Tensor, steps: int) -> Tensor:
        """Convert rows (N, F) to a padded batch (steps, B, F) with zeros in the padding."""
        if self.uniform and self.order is None and steps == self.steps:
            return rows.reshape(steps, self.batch, rows.shape[-1])
        padded = rows.new_zeros(steps * self.batch, rows.shape[-1])
        padded = padded.index_copy(0, self._padded_index(), rows)
        return padded.reshape(steps, self.batch, rows.shape[-1])

    def reverse(self, rows: Tensor) -> Tensor:
        """Reverse every sequence within its own length.

        The rows keep their packing, so a backward direction is the forward loop over reversed
        rows. Its step k is the k-th step of each sequence, whatever its length. Reversing twice
        gives the rows back.
        """
        if self._reversal is None and self.uniform:
            index = torch.arange(self.steps * self.batch, device=self.device)
            self._reversal = index.reshape(self.steps, self.batch).flip(0).reshape(-1)
        if self._reversal is None:
            step, column = self.places()
            sizes = torch.tensor(self.batch_sizes, dtype=torch.int64, device="cpu")
            start = sizes.cumsum(0) - sizes
            lengths = torch.bincount(column)
            index = start[lengths[column] - 1 - step] + column
            self._reversal = on_device(index, self.device)
        return rows.index_select(0, self._reversal)

    def sort(self, state: Tensor) -> Tensor:
        """Bring (..., B, F) from the user's order to the packed one."""
        if self.order is None:
            return state
        order = self.order
        if order.device != self.device:
            order = on_device(order, self.device)
        return state.index_select(-2, order)

    def unsorted(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Bring the final states (L * D, B, .) of all layers back to the user's order."""
        if self.order is None:
            return states
        index = torch.argsort(self.order)
        if index.device != self.device:
            index = on_device(index, self.device)
        found: tuple[Tensor, ...] = ()
        for state in states:
            found += (state.index_select(-2, index),)
        return found


class TensorPacking(Packing):
    """A packing inside a graph that holds for all lengths.

    There are N = T * B rows, whatever the lengths. After the rows of the sequences come unused
    rows of zeros, whose results are not read.

    Args:
        lengths: (B,) on the CPU, in any order, at most T.
        steps: T, of the padded batch.
    """

    def __init__(self, lengths: Tensor, steps: int) -> None:
        ordered, order = torch.sort(lengths, descending=True, stable=True)
        super().__init__(lengths.shape[0], steps, None, order, lengths.device)
        self.uniform = False
        alive = ordered[None, :] > torch.arange(steps, device="cpu")[:, None]
        self._sizes = alive.sum(1)
        # Living rows come first, and both kinds keep their order.
        place = torch.argsort((~alive).flatten().to(torch.int64), stable=True)
        step, column = place // self.batch, place % self.batch
        own = torch.arange(steps * self.batch, device="cpu")
        self._used = (own < self._sizes.sum())[:, None]
        self._index = step * self.batch + order[column]
        start = self._sizes.cumsum(0) - self._sizes
        turned = start[(ordered[column] - 1 - step).clamp(min=0)] + column
        self._reversal = torch.where(self._used[:, 0], turned, own)

    @property
    def batch_sizes(self) -> list[int]:
        raise NotImplementedError("a graph for all lengths has no numbers of rows")

    def sizes(self, rows: Tensor) -> Tensor:
        return self._sizes

    def pack(self, padded: Tensor) -> Tensor:
        return torch.where(self._used, super().pack(padded), 0.0)

    def pad(self, rows: Tensor, steps: int) -> Tensor:
        return super().pad(torch.where(self._used, rows, 0.0), steps)


class Documents(Packing):
    """The packing of sequences that stand one after another in one matrix (N, F).

    Args:
        starts: (B,) the row at which every sequence begins.
        lengths: (B,) in any order.
        device: device of the rows.
    """

    def __init__(self, starts: Tensor, lengths: Tensor, device: torch.device) -> None:
        order = torch.argsort(lengths, descending=True, stable=True)
        sizes = rows_of_steps(lengths)
        super().__init__(len(lengths), len(sizes), sizes, order, device)
        step, column = self.places()
        self._index = (starts[order][column] + step).to(device)

    def pack(self, padded: Tensor) -> Tensor:
        return padded.index_select(0, self._padded_index())

    def pad(self, rows: Tensor, steps: int) -> Tensor:
        padded = rows.new_zeros(steps, rows.shape[-1])
        return padded.index_copy_(0, self._padded_index(), rows)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for a GPU's earlier work.

    Raises:
        RuntimeError: a CUDA graph is captured, which would read this memory again later.
    """
    plain = type(tensor) is Tensor and not torch.compiler.is_compiling()
    if plain and tensor.device.type == "cpu" and device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "a CUDA graph cannot hold lengths: capture a call of sequences of one length, "
                "without lengths"
            )
        # Only memory that is pinned is copied in the background.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def rows_of_steps(lengths: Tensor) -> list[int]:
    """Return the number of sequences (B,), on the CPU, that reach each step."""
    ended = torch.bincount(lengths).cumsum(0)[:-1]
    found: list[int] = (len(lengths) - ended).tolist()
    return found


def with_ended(new: Sequence[Tensor], before: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return a new state of the first sequences, and the state before of those that have ended."""
    return tuple(
        torch.cat([part, old[part.shape[0] :]]) if part.shape[0] < old.shape[0] else part
        for part, old in zip(new, before)
    )


def never_grow(batch: int, sizes: Sequence[int]) -> bool:
    """Return whether numbers of rows of steps are positive, at most B, and never grow."""
    return all(0 < after <= before for before, after in zip((batch, *sizes), sizes))
