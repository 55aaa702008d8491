"""Sequences that begin anew in the middle, cut into segments.

Nothing that came before a reset is known after it. So each sequence is cut at its resets, and the
segments stand in the place of sequences in a larger batch, which layers and backends compute as any
other. The first segment of a sequence starts from the state that the call is given, and the others
start from the layer's initial state.

Axes: T steps, B sequences, S segments, N packed rows, F features, L layers, D directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .packing import Packing, Piece, rows_of_steps


class Segments(Packing):
    """The packing of the segments of a batch, the longest segment first.

    Args:
        whole: the packing of the sequences.
        resets: (N,) in the order of ``whole``, on the CPU: true where a sequence begins anew. A
            reset at step t stands between the steps t - 1 and t in both directions.
        directions: D.
        first_steps: (B,) in the order of ``whole``, on the CPU: the number of the first step of
            every sequence, for statistics of every step. They count from 0 after a reset.
    """

    def __init__(
        self, whole: Packing, resets: Tensor, directions: int, first_steps: Tensor | None = None
    ) -> None:
        step, column = whole.places()
        lengths = torch.bincount(column, minlength=whole.batch)
        begins = resets | (step == 0)
        empty = (lengths == 0).nonzero()[:, 0]  # such a sequence has one segment, without rows
        sequence = torch.cat([column[begins], empty])
        start = torch.cat([step[begins], torch.zeros_like(empty)])
        order = torch.argsort(sequence * (whole.steps + 1) + start)
        sequence, start = sequence[order], start[order]
        first = torch.ones_like(sequence, dtype=torch.bool)
        first[1:] = sequence[1:] != sequence[:-1]
        last = torch.ones_like(first)
        last[:-1] = first[1:]
        length = torch.where(last, lengths[sequence], start.roll(-1)) - start
        renewed = torch.zeros(whole.batch, dtype=torch.bool, device="cpu")
        alive = whole.batch - len(empty)
        renewed[:alive] = resets[:alive]  # the first rows are those of step 0

        order = torch.argsort(length, descending=True, stable=True)
        sizes = rows_of_steps(length)
        super().__init__(len(order), len(sizes), sizes, None, whole.device)
        self._whole = whole
        # Numbers of the given states with which segments start; the initial state has number B.
        goes_on = first & ~renewed[sequence]
        starts = [torch.where(own, sequence, whole.batch)[order] for own in (goes_on, last)]
        self._starts = [found.to(self.device) for found in starts[:directions]]
        # Numbers of the segments that end with the final states, sequence by sequence.
        number = torch.argsort(order)
        finals = [number[own] for own in (last, first)]
        self._finals = [found.to(self.device) for found in finals[:directions]]
        offset = torch.zeros_like(start)
        if first_steps is not None:
            offset = torch.where(goes_on, first_steps[sequence], 0)
        self._order(sequence[order], start[order], length[order], offset[order])

    def _order(self, sequence: Tensor, start: Tensor, length: Tensor, offset: Tensor) -> None:
        """Set the order of the rows, in several pieces if segments begin at different steps.

        Args:
            sequence, start, length: (S,) the sequence of every segment, its first step there, and
                its number of steps; the longest segment first.
            offset: (S,) the number of its first step, as statistics count.
        """
        before = torch.tensor(self._whole.batch_sizes, dtype=torch.int64, device="cpu")
        before = before.cumsum(0) - before
        begins: list[int] = offset[length > 0].unique().tolist() or [0]
        end = offset + length
        pieces: list[Piece] = []
        index, row = [], 0
        for first, until in zip(begins, [*begins[1:], None]):
            left = (end if until is None else end.clamp(max=until)) - first
            left, members = torch.where(offset > first, 0, left).sort(descending=True, stable=True)
            sizes = rows_of_steps(left.clamp(min=0))
            packing = Packing(sizes[0] if sizes else 0, len(sizes), sizes, None, self.device)
            packing.first = first
            step, column = packing.places()
            member = members[column]
            step += start[member] + first - offset[member]
            index.append(before[step] + sequence[member])
            members = members[: packing.batch].to(self.device)
            pieces.append(Piece(slice(row, row := row + len(step)), packing, members))
        self._rows = torch.cat(index).to(self.device)
        self.first = begins[0]
        if len(begins) > 1:
            self.pieces = pieces

    def cut(self, rows: Tensor) -> Tensor:
        """Bring rows (N, F) from the order of the sequences to that of the segments."""
        return rows.index_select(0, self._rows)

    def flat(self, rows: Tensor) -> Tensor:
        return torch.empty_like(rows).index_copy_(0, self._rows, rows)

    def pack(self, padded: Tensor) -> Tensor:
        return self.cut(self._whole.pack(padded))

    def pad(self, rows: Tensor, steps: int) -> Tensor:
        return self._whole.pad(self.flat(rows), steps)

    def start(self, given: Tensor, initial: Tensor) -> Tensor:
        """Return the states (L * D, S, F) with which the segments start.

        Args:
            given: (L * D, B, F) in the order of the sequences.
            initial: (L * D, 1, F) the initial states of the layer.
        """
        return self._of_directions(torch.cat([given, initial], 1), self._starts)

    def unsorted(self, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self._whole.unsorted(
            tuple([self._of_directions(state, self._finals) for state in states])
        )

    def _of_directions(self, state: Tensor, index: list[Tensor]) -> Tensor:
        each = state.unflatten(0, (-1, len(index))).unbind(1)
        found = [part.index_select(1, own) for part, own in zip(each, index)]
        return torch.stack(found, 1).flatten(0, 1)
