"""What ``zip(strict=True)`` is from Python 3.10 on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def zipped(*iterables: Iterable[Any]) -> list[tuple[Any, ...]]:
    """``zip`` of what has equally many elements; AssertionError for anything else."""
    columns = [list(values) for values in iterables]
    assert len({len(column) for column in columns}) <= 1, [len(column) for column in columns]
    return list(zip(*columns))
