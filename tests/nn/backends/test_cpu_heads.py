"""The kernels of LSTM and GRU with heads: panels of each head, threads, graphs, inference.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    SCHEMES,
    Call,
    assert_equals_reference,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    refusal,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.backends.cpu.traced import _text
from seqnorm.nn.layers.cells import LAYERS

pytestmark = needs_kernels
I, H = 5, 24  # noqa: E741  the axes' letters
DEEP = {"num_layers": 2, "bidirectional": True}
TAKEN = {name: found for name, found in taken().items() if found[0] in ("LSTM", "GRU")}


@pytest.mark.parametrize("name", TAKEN)
def test_every_scheme(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scheme that the kernels take without heads they take with heads."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, 12, heads=3, **DEEP)
    assert refusal(layer) is None
    call = Call.draw(layer, [3, 0, 5, 5, 2])
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("norm", [None, "layer", "kinds"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_heads(cell: str, norm: Any, heads: int, threads: Callable[[int], None]) -> None:
    """Panels of each head, of fewer units than a vector too, divided among threads."""
    if norm == "kinds":
        norm = SCHEMES[cell]["kinds" if cell == "GRU" else "hidden alone"]
    layer = build(cell, norm, I, H, heads=heads, **DEEP)
    for number in (1, 2, 3):
        threads(number)
        assert_equals_reference(layer, Call.draw(layer, [3, 0, 5, 5, 2]), f"{number} threads")


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_few_rows_of_many_units(cell: str, number: int, threads: Callable[[int], None]) -> None:
    """Threads share the units of a row, in parts that do not cut a panel of a head."""
    threads(number)
    for heads in (2, 5):
        layer = build(cell, "layer", I, 300, heads=heads)
        assert_equals_reference(layer, Call.draw(layer, [4, 2]), f"{heads} heads")


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_many_rows(cell: str) -> None:
    """A matrix is not centred then, because the heads read different units."""
    layer = build(cell, "layer", I, 40, heads=4)
    assert_equals_reference(layer, Call.draw(layer, None, B=30, T=6))


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_prepared_calls(cell: str, norm: Any, calls: list[int]) -> None:
    """Inference by addresses, of layers and cells."""
    layer = build(cell, norm, I, H, heads=8, num_layers=2).eval()
    x = torch.randn(5, 3, I, dtype=F64)
    with torch.no_grad():
        layer(x)  # looks at the tables
        calls.clear()
        found = layer(x)
        with seqnorm.use_backend("reference"):
            expected = layer(x)
    assert calls == [5]
    for one, other in zip((found[0], *parts_of(found[1])), (expected[0], *parts_of(expected[1]))):
        assert_close(one, other, VALUES)
    one = getattr(seqnorm, cell + "Cell")(I, H, heads=8, norm=norm, dtype=F64).eval()
    first = {"first_step": 0} if norm == "batch" else {}
    with torch.no_grad():
        one(x[0], **first)
        calls.clear()
        state = one(x[0], **first)
        with seqnorm.use_backend("reference"):
            right = one(x[0], **first)
    assert calls == [1]
    for mine, other in zip(parts_of(state), parts_of(right)):
        assert_close(mine, other, VALUES)


@needs_compiler
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_graphs(cell: str, norm: Any) -> None:
    """The operator's text holds the number of heads; with one it stays as it was."""
    assert _text(LAYERS[cell](I, H).step) == cell
    layer = build(cell, norm, I, H, heads=3, **DEEP).eval()
    assert _text(layer.step) == f"{cell} 3"
    call = Call.draw(layer, None)
    torch._dynamo.reset()
    results = []
    for function in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        x = call.input.clone().requires_grad_()
        output, last = function(x, as_hx(call.state))
        values = (output, *parts_of(last))
        leaves = [x, *layer.parameters()]
        results.append([*values, *torch.autograd.grad(values, leaves, call.cotangents)])
    torch._dynamo.reset()
    for found, expected in zip(*results):
        assert_close(found, expected, GRADIENTS)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_bfloat16_takes_the_time_loop(cell: str) -> None:
    layer = LAYERS[cell](I, H, heads=3, norm="layer")
    x = torch.randn(4, 2, I)
    with torch.autocast("cpu", torch.bfloat16):
        assert "no kernel in bfloat16 with a projection (proj_size), with heads" in str(
            refusal(layer)
        )
        found, _ = layer(x)
        with seqnorm.use_backend("reference"):
            expected, _ = layer(x)
    assert found.dtype == F32
    assert_close(found, expected, 1e-6)


def test_sets_of_heads_take_the_time_loop() -> None:
    norm = seqnorm.NormScheme(hidden=seqnorm.Norm("layer", "heads"))
    assert refusal(LAYERS["GRU"](I, H, heads=3, norm=norm)) == "it has no kernel for sets='heads'"


def test_torchs_kernels_have_no_heads() -> None:
    layer = LAYERS["GRU"](I, H, heads=3)
    with (
        seqnorm.use_backend("aten"),
        pytest.raises(RuntimeError, match="does not take this call: torch's GRU has no heads"),
    ):
        layer(torch.randn(2, 1, I))
