"""What a test of the backends needs to be the same everywhere: no preference, and its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from seqnorm.nn.backends.cpu import kernels


@pytest.fixture(autouse=True)
def no_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one backend, under which the other tests may run: here each has its own."""
    monkeypatch.delenv("SEQNORM_BACKEND", raising=False)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, and has all of them work, however little there is to do."""
    before = torch.get_num_threads()
    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
