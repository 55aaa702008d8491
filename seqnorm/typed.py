"""Types of ``__call__`` for type checkers, because torch declares any arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Forward = TypeVar("Forward", bound=Callable[..., Any])


def called_as(forward: Forward) -> Callable[[object], Forward]:
    """Declare a ``__call__`` with the types and overloads of ``forward``; never executed.

    A subclass whose ``forward`` has other types declares a ``__call__`` of its own.
    """
    raise NotImplementedError
