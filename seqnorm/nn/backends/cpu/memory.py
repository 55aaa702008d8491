"""Working memory that is used again: new pages cost a call of this size more than its arithmetic.

What a caller sees is never given back.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

# Bytes that are kept for later calls, by all threads together.
LIMIT = 256 << 20

_lock = threading.Lock()
_spare: list[Tensor] = []


def take(size: int) -> Tensor:
    """A tensor of ``size`` bytes, undefined, that begins a cache line; to be given back with
    ``give``."""
    size = -(-size // 64) * 64
    memory = None
    with _lock:
        # The smallest that holds it, unless most of it would lie idle.
        best = -1
        for k, spare in enumerate(_spare):
            length = len(spare)
            if size <= length <= 2 * size + 4096 and (best < 0 or length < len(_spare[best])):
                best = k
        if best >= 0:
            memory = _spare.pop(best)
    return torch.empty(size, dtype=torch.uint8) if memory is None else memory


def give(*tensors: Tensor) -> None:
    """Keep the memory of tensors that ``take`` gave and that nobody looks at any more."""
    with _lock:
        _spare.extend(tensors)
        while sum(map(len, _spare)) > LIMIT:
            _spare.pop(0)
