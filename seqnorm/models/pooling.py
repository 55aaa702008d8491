"""Pooling of a sequence's valid steps into one vector.

Axes: B sequences, T steps, H features, P pooled features (H for each part of the pooling).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqnorm.nn.statistics.masks import valid_mask
from seqnorm.typed import called_as

PARTS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """Pool the outputs of a recurrent layer over the valid steps of every sequence.

    Args:
        mode: The pooling: "last" (the output at the last valid step; for a backward direction, the
            output at step 0, where it has read the whole sequence), "mean", "max", "attention"
            (weights from a learned query, Yang et al. 2016, equations 5 to 7), or several joined by
            +, as in "mean+max".
        size: The number of features of a step, H.
        bidirectional: True if the second half of the features was computed from right to left.

    Raises:
        ValueError: ``mode`` has an unknown or repeated part, or ``size`` is odd for two directions.
    """

    def __init__(self, mode: str, size: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.parts = tuple(mode.split("+"))
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(
                    f"pooling {mode!r} has an unknown part {part!r}: write one of "
                    f"{', '.join(PARTS)}, or several joined by +, as in mean+max"
                )
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"pooling {mode!r} repeats a part")
        if bidirectional and size % 2:
            raise ValueError(f"two directions need an even number of features, got {size}")
        self.size = size
        self.bidirectional = bidirectional
        self.output_size = len(self.parts) * size
        if "attention" in self.parts:
            self.projection = nn.Linear(size, size)
            self.query = nn.Parameter(torch.randn(size) / size**0.5)

    def forward(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Pool ``output`` (B, T, H) to (B, P) over its first ``lengths`` (B,) steps.

        The values at padded steps change nothing, even if they are NaN. A sequence of length 0
        gives zeros.
        """
        lengths = lengths.to(output.device)
        valid = valid_mask(lengths, output.shape[1])
        output = output.masked_fill(~valid[..., None], 0)
        pooled = [getattr(self, f"_{part}")(output, lengths, valid) for part in self.parts]
        return torch.cat(pooled, -1).masked_fill((lengths == 0)[:, None], 0)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _last(self, output: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        rows = torch.arange(output.shape[0], device=output.device)  # len() would fix B in a graph
        last = output[rows, (lengths - 1).clamp(min=0)]
        if not self.bidirectional:
            return last
        return torch.cat([last[:, : self.size // 2], output[:, 0, self.size // 2 :]], -1)

    def _mean(self, output: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        return output.sum(1) / lengths.clamp(min=1)[:, None]

    def _max(self, output: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        return output.masked_fill(~valid[..., None], -torch.inf).amax(1)

    def scores(self, output: Tensor, valid: Tensor) -> Tensor:
        """Return the scores (B, T) whose softmax over the ``valid`` (B, T) steps is attention."""
        scores = torch.tanh(self.projection(output)) @ self.query
        # The lowest finite number instead of -inf: a row without a valid step must not become
        # 0 / 0, because its NaN would reach the gradients of the whole batch.
        return scores.masked_fill(~valid, torch.finfo(scores.dtype).min)

    def _attention(self, output: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        return (self.scores(output, valid).softmax(-1)[..., None] * output).sum(1)
