"""A layer that is ready for prepared calls, and its results beside those of the definition.

Axes: T steps, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from beside_reference import F64, build
from hidden_states import parts_of
from tolerances import assert_close
from torch import Tensor, nn

import seqnorm


def results(layer: Any, *given: Any, **options: Any) -> tuple[Tensor, ...]:
    """Return the outputs and the final states of a layer, or the new state of a cell."""
    with torch.no_grad():
        found = layer(*given, **options)
    if isinstance(layer, nn.Module) and hasattr(layer, "num_layers"):
        return (found[0], *parts_of(found[1]))
    return parts_of(found)


def by_definition(layer: Any, *given: Any, **options: Any) -> tuple[Tensor, ...]:
    """Return ``results`` without the kernels."""
    with seqnorm.use_backend("reference"):
        return results(layer, *given, **options)


def trained(cell: str, norm: Any, I: int, H: int, **options: Any) -> Any:  # noqa: E741
    """Return a float64 layer in evaluation mode, with statistics of some batches in its tables."""
    layer = build(cell, norm, I, H, **options)
    if any(True for _ in layer.buffers()):
        for T in (2, 5):
            results(layer, torch.randn(T, 8, I, dtype=F64))
        layer.load_state_dict(layer.float().double().state_dict())
    layer = layer.eval()
    results(layer, torch.zeros(1, 1, I, dtype=F64), first_step=0)  # looks at the tables
    return layer


def assert_same(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        assert value.shape == wanted.shape
        assert_close(value.to(F64), wanted.to(F64), tolerance, what)
