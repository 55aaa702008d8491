"""Graphs that trace layers: functions that they leave out, and graphs of torch's own operators."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Called = TypeVar("Called", bound=Callable[..., Any])
_asked = 0


@contextmanager
def of_torch_alone() -> Iterator[None]:
    """Trace layers as graphs of torch's own operators within the context."""
    global _asked
    _asked += 1
    try:
        yield
    finally:
        _asked -= 1


def asks_for_torch_alone() -> bool:
    """Return whether a trace is under way that may hold torch's own operators alone."""
    return torch.compiler.is_compiling() and (_asked > 0 or is_onnx_export())


def is_onnx_export() -> bool:
    """Return whether ``torch.onnx.export`` is under way."""
    # torch.onnx.is_in_onnx_export would import the exporter.
    exporter = sys.modules.get("torch.onnx._internal.exporter._flags")
    return exporter is not None and bool(exporter._is_onnx_exporting)


# Compiled graphs take the answers as constants.
is_onnx_export._dynamo_marked_constant = True  # type: ignore[attr-defined]  # read by the compiler


def need_scan(user: str) -> None:
    """Raise RuntimeError for a torch without the operator ``scan`` as ``user`` needs it."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
        raise RuntimeError(
            f"{user} needs torch 2.9 or newer, and this is torch {torch.__version__}"
        )


def outside_of_graphs(function: Called) -> Called:
    """Make torch.compile call a function without compiling it or what it calls.

    ``torch.compiler.disable`` does the same, but would import the compiler here.
    """
    inside: list[Any] = []

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        if not inside and "torch._dynamo" in sys.modules:
            inside.append(torch.compiler.disable(function))
        return (inside[0] if inside else function)(*args)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]  # read by the compiler
    return called  # type: ignore[return-value]  # with the same arguments
