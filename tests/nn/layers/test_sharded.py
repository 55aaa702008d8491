"""Parameters that are divided among processes (fully_shard) train as those of one process."""

from __future__ import annotations

from typing import Any

import pytest
import ranks
import sharded
from tolerances import GRADIENTS, assert_close, assert_equal
from torch_versions import TORCH

pytestmark = pytest.mark.skipif(TORCH < (2, 6), reason="fully_shard needs torch 2.6")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return ranks.together(sharded.work, 2, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("norm", sharded.NORMS)
def test_training_and_checkpoints(two: list[Any], norm: str | None) -> None:
    """With shared statistics, two processes compute what one does, also after a checkpoint."""
    expected = sharded.alone(norm)
    for found in two:
        assert found[norm]["trained"].keys() == expected.keys()
        for name, value in expected.items():
            tolerance = GRADIENTS if value.is_floating_point() else 0.0
            assert_close(found[norm]["trained"][name], value, tolerance, name)
            assert_equal(found[norm]["read"][name], found[norm]["trained"][name], name)
