"""Backends compute layers. Each claims the calls that it can compute, or says why it cannot.

They are in the order of preference, and ``reference`` takes every call; those after it compute a
call only where a program asks for them. An error in a backend is raised; no call falls back
silently.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from ..check import choose
from ..recurrence.direction import Direction, DirectionCall
from ..recurrence.packing import Packing
from ..recurrence.step import State
from . import aten, cpu, reference, triton


class Backend(Protocol):
    """A module or object that computes one layer in one direction, as ``reference`` does.

    It may also have ``run_layer(calls)``, which computes all directions of a layer together.
    """

    def status(self) -> tuple[bool, str]: ...

    def claims(
        self, direction: Direction, rows: Tensor, packing: Packing, state: State, /
    ) -> str | None: ...

    def run(
        self, direction: Direction, rows: Tensor, packing: Packing, state: State, /
    ) -> tuple[Tensor, State]: ...


BACKENDS: dict[str, Backend] = {
    "aten": aten,
    "cpu": cpu,
    "reference": reference,
    "triton": triton,
}
_OWN = BACKENDS
VARIABLE = "SEQNORM_BACKEND"
_pinned: ContextVar[str | None] = ContextVar("seqnorm_backend", default=None)
# The pins of all threads and tasks in the order of their contexts. The last one is for
# torch.compile, which cannot read a ContextVar but guards the globals that it reads.
_held: dict[object, str] = {}
_lock = threading.Lock()
_pinned_when_traced: str | None = None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute every layer within the context by this backend alone.

    ``with seqnorm.use_backend("reference"): ...`` uses the definition, which is differentiable to
    any order. The environment variable ``SEQNORM_BACKEND`` prefers a backend for a whole program
    instead: the calls that it does not take go to the others as usual.

    Each thread and task has its own context. Under ``torch.compile`` and ``torch.export``, within a
    traced function and around it, the context that was entered last holds in all threads, and the
    variable is read when a layer is traced.

    Args:
        name: "aten" (torch's own kernels, for layers without a norm), "cpu" (compiled loops for
            every cell, with most norms), "reference", or "triton" (kernels for LSTM and GRU on an
            NVIDIA GPU, which have not run on one yet).

    Raises:
        ValueError: there is no backend of that name.
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
    """Return all backends by name, in the order of preference, with a line on each one's state.

    The environment variable ``SEQNORM_KERNELS`` chooses the instruction set of "cpu" when seqnorm
    is imported: "avx512", "avx2", "base" or "none". The default is the widest set of the processor.
    The import raises ValueError for a set that does not exist here.
    """
    found = {}
    for name, module in BACKENDS.items():
        there, text = module.status()
        found[name] = ("active: " if there else "absent: ") + text
    return found


def explain(
    direction: Direction, rows: Tensor, packing: Packing, state: State
) -> dict[str, str | None]:
    """Return for every backend ``None`` if it takes this call, or the reason why it does not."""
    call = direction, rows, packing, state
    return {name: module.claims(*call) for name, module in BACKENDS.items()}


def allows_cpu() -> bool:
    """Return whether neither the context nor ``BACKENDS`` puts another backend before ``cpu``.

    For calls that ``aten`` does not take.
    """
    return BACKENDS is _OWN and _pinned.get() in (None, "cpu")


def run_layer(calls: Sequence[DirectionCall]) -> list[tuple[Tensor, State]]:
    """Compute each direction of a layer by the backend of its call."""
    chosen = []
    for call in calls:
        chosen.append(choice(*call))
    if chosen.count(chosen[0]) == len(chosen) and hasattr(chosen[0], "run_layer"):
        found: list[tuple[Tensor, State]] = chosen[0].run_layer(calls)
        return found
    return [each.run(*call) for each, call in zip(chosen, calls)]


def choice(direction: Direction, rows: Tensor, packing: Packing, state: State) -> Backend:
    """Return the backend of a call: the pinned one, or the first that claims the call."""
    pinned = _pinned_when_traced if torch.compiler.is_compiling() else _pinned.get()
    if pinned is not None:
        reason = BACKENDS[pinned].claims(direction, rows, packing, state)
        if reason is not None:
            raise RuntimeError(f"backend {pinned!r} does not take this call: {reason}")
        return BACKENDS[pinned]
    order = list(BACKENDS.values())
    name = _variable()
    if name:
        choose(VARIABLE, name, BACKENDS)
        order.insert(0, BACKENDS[name])
    for backend in order:
        if backend.claims(direction, rows, packing, state) is None:
            return backend
    raise AssertionError("the reference takes every call")


def _variable() -> str | None:
    return os.environ.get(VARIABLE)


# torch.compiler.assume_constant_result would set this too, but import the compiler. The compiler of
# torch 2.3 cannot read the environment itself.
_variable._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as above
