"""Threads for one test, and what there was before afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from seqnorm.nn.backends.cpu import calls


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, and has all of them work, however little there is to do."""
    before = torch.get_num_threads()
    monkeypatch.setattr(calls, "LEAST_WORK", 1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
