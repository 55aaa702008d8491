"""Functions that graphs of torch.compile leave out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Called = TypeVar("Called", bound=Callable[..., Any])


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
