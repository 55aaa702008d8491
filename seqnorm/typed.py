"""Types of ``__call__`` for type checkers, where torch declares any argument and result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Forward = TypeVar("Forward", bound=Callable[..., Any])


def called_as(forward: Forward) -> Callable[[object], Forward]:
    """Declare a ``__call__`` with the types of ``forward``, overloads included; never run.

    A subclass whose ``forward`` has other types declares a ``__call__`` of its own.
    """
    raise NotImplementedError
