"""Working memory that is reused: new pages cost a small call more than its arithmetic.

Tensors that a caller sees are never reused.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

# The largest number of bytes kept for later calls of all threads.
LIMIT = 256 << 20


class Spare:
    """Spare tensors of bytes by size, with eight sizes between successive powers of two."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()
        self._tensors: dict[int, list[Tensor]] = {}

    def take(self, size: int) -> Tensor:
        """Return a tensor of at least ``size`` undefined bytes."""
        step = max(64, 1 << max(size.bit_length() - 4, 0))
        size = -(-size // step) * step
        with self._lock:
            found = self._tensors.get(size)
            if found:
                self.bytes -= size
                return found.pop()
        # A later call may record gradients, and the kernels need addresses, whatever the caller's
        # default device is.
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.uint8, device="cpu")

    def give(self, tensor: Tensor) -> None:
        """Keep the memory of a tensor from ``take`` that is no longer in use."""
        size = tensor.numel()
        with self._lock:
            self._tensors[size] = [*self._tensors.pop(size, ()), tensor]
            self.bytes += size
            while self.bytes > LIMIT:
                oldest = next(iter(self._tensors))
                if self._tensors[oldest]:
                    self._tensors[oldest].pop(0)
                    self.bytes -= oldest
                else:
                    del self._tensors[oldest]


_spare = Spare()
take, give = _spare.take, _spare.give
