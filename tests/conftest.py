"""Every test starts from the same seed and leaves torch's global settings as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(20160721)
    yield
    assert torch.get_default_dtype() == torch.float32
