"""Backends: who computes a layer. Each claims the calls it can do, or says why it cannot.

The order is that of preference, and the last one, ``reference``, takes every call. A backend that
breaks raises; nothing falls back silently from an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

from torch import Tensor

from ..check import choose
from ..direction import Direction
from ..lengths import Packing
from ..loop import State
from . import aten, reference

BACKENDS: dict[str, ModuleType] = {"aten": aten, "reference": reference}
_pinned: ContextVar[str | None] = ContextVar("seqnorm_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Within: every layer is computed by this backend alone.

    ``with seqnorm.backend("reference"): ...`` gives the definition, differentiable to any order.

    Raises:
        ValueError: no backend of that name.
        RuntimeError: on a call that the backend does not take, with its reason.
    """
    choose("backend", name, BACKENDS)
    token = _pinned.set(name)
    try:
        yield
    finally:
        _pinned.reset(token)


def explain(direction: Direction, rows: Tensor, packing: Packing) -> dict[str, str | None]:
    """Every backend with ``None`` if it takes this call, or the reason why it does not."""
    return {name: module.claims(direction, rows, packing) for name, module in BACKENDS.items()}


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """One layer in one direction, by the pinned backend or the first that claims the call."""
    pinned = _pinned.get()
    if pinned is not None:
        reason = BACKENDS[pinned].claims(direction, rows, packing)
        if reason is not None:
            raise RuntimeError(f"backend {pinned!r} does not take this call: {reason}")
        chosen = BACKENDS[pinned]
    else:
        chosen = next(b for b in BACKENDS.values() if b.claims(direction, rows, packing) is None)
    outputs: tuple[Tensor, State] = chosen.run(direction, rows, packing, state)
    return outputs
