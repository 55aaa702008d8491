"""A replacement for ``zip(strict=True)``, which Python 3.9 lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def zipped(*iterables: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Zip sequences of equal length; raise AssertionError for other lengths."""
    columns = [list(values) for values in iterables]
    assert len({len(column) for column in columns}) <= 1, [len(column) for column in columns]
    return list(zip(*columns))
