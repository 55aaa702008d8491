"""For type checkers: in torch's own declaration a module takes and gives anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Forward = TypeVar("Forward", bound=Callable[..., Any])


def called_as(forward: Forward) -> Callable[[object], Forward]:
    """Declares a ``__call__`` with the types of ``forward``, overloads included; never run.

    A subclass whose ``forward`` takes or gives something else declares a ``__call__`` of its own.
    """
    raise NotImplementedError
