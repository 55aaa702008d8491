"""Every tolerance of the tests, and the one comparison that uses them.

A tolerance is relative to the largest expected magnitude (or to 1 if that is smaller), because
terms that cancel in one element have the size of its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Float64 over a few steps: outputs, states and statistics.
VALUES = 1e-10
# Float64 over a few steps, with weights that were only put in another order.
REORDERED = 1e-12
# Float64 outputs, states and statistics of sequences that are cut at resets.
CUT = 1e-12
# Float64 gradients: with eps = 1e-5 under a root, a norm of a small set amplifies rounding errors.
GRADIENTS = 1e-10
# Two orders of summation of the same float64 numbers, without amplification.
SUMS = 1e-13
# Analytic against finite differences, in float64 (relative, absolute).
FINITE_DIFFERENCES = (1e-4, 1e-6)
# Float32 against a float64 result of the same statistics.
SINGLE = 1e-5


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """Check equal shape and dtype, finite values, and all differences against the tolerance."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} against {expected.shape}"
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} against {expected.dtype}"
    if not expected.numel():
        return
    assert bool(expected.isfinite().all()), f"{what}: the expectation is not finite"
    scale = max(1.0, expected.abs().max().item())
    distance = (actual - expected).abs().max().item()
    # This form fails for NaN.
    assert distance <= tolerance * scale, f"{what}: {distance} apart at magnitude {scale}"


def assert_equal(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Check that values are bitwise equal."""
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0, msg=lambda m: f"{what}: {m}")
