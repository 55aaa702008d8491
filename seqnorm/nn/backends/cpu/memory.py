"""Working memory that is used again: new pages cost a call of this size more than its arithmetic.

What a caller sees is never given back.
"""

from __future__ import annotations

import threading
from collections import defaultdict

import torch
from torch import Tensor

# Bytes that are kept for later calls, by all threads together.
LIMIT = 256 << 20

_lock = threading.Lock()
# By size, of which there are eight between a power of two and the next.
_spare: defaultdict[int, list[Tensor]] = defaultdict(list)
_kept = 0


def take(size: int) -> Tensor:
    """A tensor of at least ``size`` bytes, undefined, that begins a cache line; to be given back
    with ``give``."""
    step = max(64, 1 << max(size.bit_length() - 4, 0))
    size = -(-size // step) * step
    global _kept
    with _lock:
        if _spare[size]:
            _kept -= size
            return _spare[size].pop()
    return torch.empty(size, dtype=torch.uint8)


def give(tensor: Tensor) -> None:
    """Keep the memory of a tensor that ``take`` gave and that nobody looks at any more."""
    global _kept
    with _lock:
        _spare[tensor.numel()].append(tensor)
        _kept += tensor.numel()
        while _kept > LIMIT:
            size = max(size for size, spare in _spare.items() if spare)
            _kept -= size
            _spare[size].pop()
