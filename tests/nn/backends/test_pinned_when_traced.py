"""Pinned backends with compiled and exported layers, around and within the traced code.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from beside_reference import needs_kernels
from tolerances import SINGLE, assert_close
from torch import Tensor
from torch_versions import needs_compiler

import seqnorm

pytestmark = [needs_compiler, needs_kernels]
I, H, T, B = 3, 8, 4, 4  # noqa: E741  the axes' letters


class Traced:
    """A compiler backend that only counts the calls of the kernels in every graph."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.calls.append(kernels(graph))
        return graph.forward

    def new(self) -> list[int]:
        """Return the counts of the graphs since the last call."""
        seen, self.calls = self.calls, []
        return seen


def kernels(graph: torch.fx.GraphModule) -> int:
    """Count the calls of the kernels, as Dynamo and torch.export write them."""
    own = (torch.ops.seqnorm.recurrence, torch.ops.seqnorm.recurrence.default)
    return sum(node.target in own for node in graph.graph.nodes)


@pytest.fixture
def traced() -> Iterator[Traced]:
    torch._dynamo.reset()
    yield Traced()
    torch._dynamo.reset()


def compiled(function: Any, traced: Traced) -> Any:
    return torch.compile(function, backend=traced, fullgraph=True)


def test_a_pin_around_a_compiled_layer(traced: Traced) -> None:
    """It is compiled again under another pin, but not under one that was compiled before."""
    layer, x = seqnorm.LSTM(I, H), torch.randn(T, B, I)
    fast = compiled(layer, traced)
    expected = layer(x)[0]
    for name, graphs in ((None, [1]), ("reference", [0]), (None, []), ("reference", [])):
        if name is None:
            found = fast(x)[0]
        else:
            with seqnorm.use_backend(name):
                found = fast(x)[0]
        assert traced.new() == graphs, name
        assert_close(found, expected, SINGLE)


def test_a_pin_within_a_compiled_function(traced: Traced) -> None:
    layer, x = seqnorm.LSTM(I, H), torch.randn(T, B, I)

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        with seqnorm.use_backend("reference"):
            first = layer(x)[0]
        return first, layer(x)[0]

    for found in compiled(both, traced)(x):
        assert_close(found, layer(x)[0], SINGLE)
    assert traced.new() == [1], "the definition of the first"
    with seqnorm.use_backend("reference"):
        compiled(both, traced)(x)
    assert traced.new() == [0]
    compiled(both, traced)(x)
    assert traced.new() == [], "what was pinned within is undone"


def test_a_pinned_backend_says_why_not_to_a_compiled_layer(traced: Traced) -> None:
    layer = torch.compile(seqnorm.LSTM(I, H, norm="layer"), backend=traced)
    message = "backend 'aten' does not take this call: torch's fused layer has no norm"
    with seqnorm.use_backend("aten"), pytest.raises(RuntimeError, match=message):
        layer(torch.randn(T, B, I))


@pytest.mark.parametrize("strict", [True, False])
def test_a_pin_around_an_export(strict: bool) -> None:
    layer, x = seqnorm.LSTM(I, H), torch.randn(T, B, I)
    assert kernels(torch.export.export(layer, (x,), strict=strict).graph_module) == 1
    with seqnorm.use_backend("reference"):
        program = torch.export.export(layer, (x,), strict=strict)
    assert kernels(program.graph_module) == 0
    assert_close(program.module()(x)[0], layer(x)[0], SINGLE)


def test_a_preferred_backend_of_a_compiled_layer(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQNORM_BACKEND", "reference")
    compiled(seqnorm.LSTM(I, H), traced)(torch.randn(T, B, I))
    assert traced.new() == [0]
