"""Texts for next-token prediction: whole documents, or one stream cut into windows.

Letters: B sequences in a batch, T tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .batching import Item, padded


class LanguageBatch(NamedTuple):
    """Tokens, and the token that follows each of them.

    tokens (B, T) and targets (B, T) are int64, and the first lengths (B,) of each row are valid.
    indices (B,) are those of the documents or of the rows of the stream. If ``starts`` is True, the
    sequences begin in this batch; otherwise they continue, row by row, those of the batch before.
    ``resets`` (B, T) are True where a document begins, or None if the state is carried on there.
    """

    tokens: Tensor
    targets: Tensor
    lengths: Tensor
    indices: Tensor
    starts: bool
    resets: Tensor | None = None


class StreamWindows(Dataset[LanguageBatch]):
    """A stream as B parallel rows of contiguous text, cut into windows of T tokens.

    The stream (n,) is divided into B rows, and the first n mod B of them are one token longer than
    the others. Item w holds the w-th window of every row: its ``targets`` are the tokens of the
    window, and its ``tokens`` are the preceding tokens. The first token of the stream is preceded
    by ``before``, and the first token of another row by the last token of the row above. Thus every
    token of the stream is a target exactly once, and the state after one window is the state before
    the next. In the last window, rows may be shorter by one token, or empty.

    With several processes, each has the rows ``rank``, ``rank + num_replicas``, ..., and all have
    the same number of windows.

    Args:
        stream: The integers (n,) of the stream.
        batch_size: The number of rows over all processes, B.
        window: The number of tokens of a window, T.
        before: The token before the first token of the stream.
        reset_at: The token after which a document begins anew, or None.

    Raises:
        ValueError: The window is below 1, or there are more processes than rows or more rows than
            tokens.
    """

    def __init__(
        self,
        stream: Tensor,
        batch_size: int,
        window: int,
        before: int,
        *,
        reset_at: int | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if window < 1:
            raise ValueError(f"a window needs at least 1 token, got {window}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must lie in [0, num_replicas): {rank}, {num_replicas}")
        if batch_size < num_replicas:
            raise ValueError(
                f"{batch_size} row(s) of a stream cannot be divided among {num_replicas} "
                "processes: each needs at least one"
            )
        if len(stream) < batch_size:
            raise ValueError(
                f"{len(stream)} tokens do not suffice for {batch_size} rows of at least one token"
            )
        size, longer = divmod(len(stream), batch_size)
        lengths = [size + (row < longer) for row in range(batch_size)]
        ends = torch.tensor(lengths, device="cpu").cumsum(0).tolist()
        self._rows = range(rank, batch_size, num_replicas)
        # With the preceding token, inputs and targets are slices of one tensor.
        whole = torch.cat([stream.new_tensor([before]), stream])
        self._text = [whole[ends[row] - lengths[row] : ends[row] + 1] for row in self._rows]
        self._window = window
        self._reset_at = reset_at
        self._windows = -(-lengths[0] // window)

    def __len__(self) -> int:
        return self._windows

    def __getitem__(self, index: int) -> LanguageBatch:
        if not 0 <= index < self._windows:
            raise IndexError(f"window {index} of {self._windows}")
        start = index * self._window
        # A row that has ended leaves its last token, which has no target.
        pieces = [row[start : start + self._window + 1] for row in self._text]
        batch = _batch(pieces, list(self._rows), starts=index == 0)
        if self._reset_at is None:
            return batch
        return batch._replace(resets=batch.tokens == self._reset_at)


def collate_documents(items: Sequence[Item], pad_id: int = 0) -> LanguageBatch:
    """Pad whole documents (tokens, label, index) for prediction; the first token is only an input.

    This is the counterpart of `collate` for language models. T is 1, not 0, if all documents have a
    single token.
    """
    pieces = [torch.as_tensor(tokens, device="cpu") for tokens, _, _ in items]
    return _batch(pieces, [index for _, _, index in items], starts=True, pad_id=pad_id)


def _batch(
    pieces: Sequence[Tensor], indices: Sequence[int], *, starts: bool, pad_id: int = 0
) -> LanguageBatch:
    """Make tokens of all but the last token of each piece, and targets of all but the first."""
    tokens, lengths = padded([piece[:-1] for piece in pieces], pad_id)
    targets, _ = padded([piece[1:] for piece in pieces], pad_id)
    return LanguageBatch(tokens, targets, lengths, torch.tensor(indices, device="cpu"), starts)
