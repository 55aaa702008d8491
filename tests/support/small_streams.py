"""Streams of small models, for the tests of what is refused.

Axes: T steps, B streams, I = input size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import seqnorm
from seqnorm import Stream

T, B, I = 5, 3, 2  # noqa: E741  the axes' letters
X = torch.zeros(T, B, I)


class Around(nn.Module):
    """A layer with another module before it, and a function of both."""

    def __init__(self, before: nn.Module | None = None, run: Any = None, **options: Any) -> None:
        super().__init__()
        self.before = nn.Identity() if before is None else before
        self.rnn = seqnorm.GRU(I, 4, **options)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        """Map (T, B, I) to (T, B, 4)."""
        return self.rnn(self.before(x))[0] if self.run is None else self.run(self.rnn, x)


def lstm(**options: Any) -> seqnorm.LSTM:
    return seqnorm.LSTM(I, 4, **options).eval()


def stream(batch: int | None = B, **options: Any) -> Stream:
    return Stream(lstm(**options), batch)


def around(*given: Any, **options: Any) -> Stream:
    return Stream(Around(*given, **options).eval(), B)
