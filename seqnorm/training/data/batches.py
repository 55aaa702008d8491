"""A DataLoader with which a run can be resumed inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


class Batches(DataLoader[T]):
    """A DataLoader that can start inside an epoch.

    It has a generator of its own. A DataLoader without one draws from the global generator for
    every pass, which would shift the dropout masks of a resumed run.
    """

    def __init__(self, dataset: Dataset[T], **options: Any) -> None:
        super().__init__(dataset, generator=torch.Generator(), **options)
        self._skipped = 0

    def skip(self, count: int) -> None:
        """Skip ``count`` batches at the beginning of the next pass."""
        self._skipped = count

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]  # torch's is one of its classes
        skipped, self._skipped = self._skipped, 0
        yield from islice(super().__iter__(), skipped, None)

    # Lightning recognises a loader that can be resumed by these two methods. They do nothing,
    # because Lightning asks for a state after it has begun other passes, and sets one after it has
    # made its iterator: ``skip`` is called instead.

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        pass
