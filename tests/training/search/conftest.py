"""A folder of series to sweep over."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_series import make, write_long


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Make a folder with long tables of 40 series to train on and 10 to test on."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for seed, (part, count) in enumerate({"train": 40, "test": 10}.items()):
        write_long(folder / f"{part}.csv", make(count, seed))
    return folder
