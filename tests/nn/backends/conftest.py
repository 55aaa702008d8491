"""Fixtures that choose preferences and threads, and that watch prepared calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from seqnorm.nn.backends.cpu import kernels
from seqnorm.nn.backends.cpu.prepared import Prepared


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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of steps of every prepared call."""
    found: list[int] = []
    real = Prepared.run

    def run(self: Prepared, input: Tensor, state: Any, steps: int, *others: Any) -> bool:
        done = real(self, input, state, steps, *others)
        found.extend([steps] if done else [])
        return done

    monkeypatch.setattr(Prepared, "run", run)
    return found
