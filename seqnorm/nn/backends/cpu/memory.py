"""Working memory that is used again: new pages cost a call of this size more than its arithmetic.

Results and gradients that a caller sees are never taken from here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

# Bytes that are kept for later calls, by all threads together.
LIMIT = 256 << 20

_lock = threading.Lock()
_spare: list[torch.UntypedStorage] = []


def take(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of that shape, its values undefined; to be given back with ``give``."""
    count = 1
    for size in shape:
        count *= size
    size = -(-count * dtype.itemsize // 64) * 64  # whole cache lines, so of any dtype
    with _lock:
        # The smallest that holds it, unless most of it would lie idle.
        fitting = [k for k, spare in enumerate(_spare) if size <= spare.nbytes() <= 2 * size + 4096]
        best = min(fitting, key=lambda k: _spare[k].nbytes(), default=None)
        memory = None if best is None else _spare.pop(best)
    if memory is None:
        memory = torch.empty(size, dtype=torch.uint8).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(memory)[:count].view(tuple(shape))


def give(*tensors: Tensor | None) -> None:
    """Keep the memory of tensors that ``take`` gave and that nobody looks at any more."""
    with _lock:
        for tensor in tensors:
            if tensor is not None:
                _spare.append(tensor.untyped_storage())
        while sum(spare.nbytes() for spare in _spare) > LIMIT:
            _spare.pop(0)
