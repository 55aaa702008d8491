"""Backends: who computes a layer. Each claims the calls it can do, or says why it cannot.

The order is that of preference, and the last one, ``reference``, takes every call. A backend that
breaks raises; nothing falls back silently from an error.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch
from torch import Tensor

from ..check import choose
from ..recurrence.direction import Direction
from ..recurrence.packing import Packing
from ..recurrence.step import State
from . import aten, cpu, reference

BACKENDS: dict[str, ModuleType] = {"aten": aten, "cpu": cpu, "reference": reference}
VARIABLE = "SEQNORM_BACKEND"
_pinned: ContextVar[str | None] = ContextVar("seqnorm_backend", default=None)
# The pins of all threads and tasks in the order in which they were entered, and the last of them
# for torch.compile, which reads no ContextVar, but watches a global that it has read.
_held: dict[object, str] = {}
_lock = threading.Lock()
_pinned_when_traced: str | None = None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute every layer within the context by this backend alone.

    ``with seqnorm.use_backend("reference"): ...`` gives the definition, differentiable to any
    order.
    The environment variable ``SEQNORM_BACKEND`` instead prefers a backend for a whole program: the
    calls that it does not take go to the others as usual.

    Both hold for layers under ``torch.compile`` and ``torch.export`` too, within a traced function
    as around it. There the pin that was entered last holds in all threads, elsewhere each thread
    and task has its own; and the variable is read when a layer is traced.

    Args:
        name: "aten" (torch's own kernels, cells without a norm), "cpu" (compiled loops for LSTM
            and GRU with most norms), or "reference".

    Raises:
        ValueError: no backend of that name.
        RuntimeError: on a call that the backend does not take, with its reason.
    """
    global _pinned_when_traced
    choose("backend", name, BACKENDS)
    if torch.compiler.is_compiling():
        before, _pinned_when_traced = _pinned_when_traced, name
        try:
            yield
        finally:
            _pinned_when_traced = before
        return
    token, key = _pinned.set(name), object()
    with _lock:
        _held[key] = _pinned_when_traced = name
    try:
        yield
    finally:
        _pinned.reset(token)
        with _lock:
            del _held[key]
            _pinned_when_traced = next(reversed(_held.values()), None)


def available_backends() -> dict[str, str]:
    """Every backend by name, in the order of preference, with what it runs on here or why it does
    not.

    The environment variable ``SEQNORM_KERNELS`` chooses what "cpu" runs on, once, when seqnorm is
    imported: "avx512", "avx2" or "base", of which the widest that the processor has is the default,
    or "none". Another word, or one of kernels that are not here, raises ValueError in the import.
    """
    found = {}
    for name, module in BACKENDS.items():
        there, text = module.status()
        found[name] = ("active: " if there else "absent: ") + text
    return found


def explain(
    direction: Direction, rows: Tensor, packing: Packing, state: State
) -> dict[str, str | None]:
    """Every backend with ``None`` if it takes this call, or the reason why it does not."""
    call = direction, rows, packing, state
    return {name: module.claims(*call) for name, module in BACKENDS.items()}


def run_layer(
    calls: Sequence[tuple[Direction, Tensor, Packing, State]],
) -> list[tuple[Tensor, State]]:
    """Each direction of a layer, by the pinned backend or the first that claims the call; those of
    one backend together, if it has a ``run_layer``."""
    chosen = []
    for call in calls:
        chosen.append(choice(*call))
    if chosen.count(chosen[0]) == len(chosen) and hasattr(chosen[0], "run_layer"):
        found: list[tuple[Tensor, State]] = chosen[0].run_layer(calls)
        return found
    return [each.run(*call) for each, call in zip(chosen, calls)]


def choice(direction: Direction, rows: Tensor, packing: Packing, state: State) -> ModuleType:
    """Who will compute a call."""
    pinned = _pinned_when_traced if torch.compiler.is_compiling() else _pinned.get()
    if pinned is not None:
        reason = BACKENDS[pinned].claims(direction, rows, packing, state)
        if reason is not None:
            raise RuntimeError(f"backend {pinned!r} does not take this call: {reason}")
        return BACKENDS[pinned]
    for backend in _preferred():
        if backend.claims(direction, rows, packing, state) is None:
            return backend
    raise AssertionError("the reference takes every call")


def _variable() -> str | None:
    return os.environ.get(VARIABLE)


# As torch.compiler.assume_constant_result does, which would import the compiler: that of torch 2.3
# cannot read the environment itself.
_variable._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as above


def _preferred() -> list[ModuleType]:
    order = list(BACKENDS.values())
    name = _variable()
    if not name:
        return order
    choose(VARIABLE, name, BACKENDS)
    return [BACKENDS[name], *order]
