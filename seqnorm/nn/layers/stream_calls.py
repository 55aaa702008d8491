"""The streams that call a model now, and the calls of its layers, which they answer.

A layer is called somewhere inside of its model's ``forward``, and the stream stands around that.
Hooks on the layers would do the same, but to put and to remove them takes longer than a step of a
small layer.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, Protocol


class Answering(Protocol):
    """The side of a stream that a layer sees during a call."""

    def answer(self, layer: Any, *arguments: Any) -> tuple[Any, Any] | None:
        """Return the result of a call of a layer, or None if it is computed without the stream.

        Args:
            layer: the layer.
            arguments: those of ``forward``, in order.
        """


# By the number of the thread. It is empty nearly always, so that layers need not look further.
RUNNING: dict[int, Answering] = {}


def answered(layer: Any, *arguments: Any) -> tuple[Any, Any] | None:
    """Return the answer of the stream that calls the layer's model in this thread, or None."""
    stream = RUNNING.get(get_ident())
    return None if stream is None else stream.answer(layer, *arguments)
