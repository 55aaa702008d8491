"""Words about statistics, and counts in half precision."""

from __future__ import annotations

import math

import pytest
import torch

from seqnorm.training.callbacks.site_statistics import SiteStatistics, steps_in_words


def test_counts_beyond_half_precision() -> None:
    """A model in half precision has running statistics in half precision, up to 65504."""
    site, half = SiteStatistics.empty(1), torch.float16
    known = (torch.zeros(1, 2, dtype=half), torch.ones(1, 2, dtype=half), torch.ones(1))
    site.see(torch.ones(1, 2), torch.full((1, 2), math.e), torch.tensor([80000]), 0, known, 2)
    found = site.summary()
    assert found["rows_mean"] == 80000
    assert found["drift_mean"] == pytest.approx(1.0, rel=1e-3)
    assert found["drift_var"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([3], "step 3"),
        ([3, 4, 5], "steps 3-5"),
        ([0, 2, 3, 9], "steps 0, 2-3, 9"),
        ([0, 2, 4, 6, 8], "steps 0, 2, 4, 6, ..."),
    ],
)
def test_steps_in_words(steps: list[int], words: str) -> None:
    assert steps_in_words(steps, 10) == words
    assert steps_in_words([0], 1) == "all steps together"
