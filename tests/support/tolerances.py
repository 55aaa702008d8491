"""Every tolerance of the tests, and the one comparison that uses them.

A tolerance is relative to the largest expected magnitude (to 1, should that be smaller), for what
cancels in an element was added up at the size of its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Float64 through a few steps: outputs, states and statistics.
VALUES = 1e-10
# Float64 gradients: through eps = 1e-5 under a root a norm of a small set amplifies rounding.
GRADIENTS = 1e-10
# Two ways of adding up the same float64 numbers, nothing amplified.
SUMS = 1e-13
# Analytic against finite differences, in float64 (relative, absolute).
FINITE_DIFFERENCES = (1e-4, 1e-6)
# Float32 against a float64 result of the same statistics.
SINGLE = 1e-5


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """Same shape and dtype, all finite, and nowhere further apart than the tolerance allows."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} against {expected.shape}"
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} against {expected.dtype}"
    if not expected.numel():
        return
    assert bool(expected.isfinite().all()), f"{what}: the expectation is not finite"
    scale = max(1.0, expected.abs().max().item())
    distance = (actual - expected).abs().max().item()
    # Written so that NaN fails.
    assert distance <= tolerance * scale, f"{what}: {distance} apart at magnitude {scale}"


def assert_equal(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Bitwise the same values."""
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0, msg=lambda m: f"{what}: {m}")
