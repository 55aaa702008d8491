"""Fixtures that make tests of the backends independent of preferences and of the threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from seqnorm.nn.backends.cpu import kernels


@pytest.fixture(autouse=True)
def no_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore a preferred backend of the environment: these tests choose their own."""
    monkeypatch.delenv("SEQNORM_BACKEND", raising=False)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Return a function that sets the number of threads and makes all of them work."""
    before = torch.get_num_threads()
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
