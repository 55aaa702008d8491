"""A cell written outside of the library has all features of the others.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from hidden_states import of_layer
from tolerances import VALUES, assert_close
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends import explain
from seqnorm.nn.layers.cell import OneStateCell
from seqnorm.nn.layers.one_state import OneState
from seqnorm.nn.recurrence import step as registry
from seqnorm.nn.recurrence.packing import Packing

I, H, T, B = 3, 4, 5, 4  # noqa: E741  the axes' letters
F64 = torch.float64
LENGTHS = [5, 2, 0, 4]


@pytest.fixture
def leaky() -> Iterator[tuple[Any, Any]]:
    """h = h + sigmoid(l) (tanh(a) - h), gates a and l: its layer and its single step."""
    cells = dict(registry.STEPS)
    presets = {name: dict(schemes) for name, schemes in registry.PRESETS.items()}

    class LeakyStep(registry.Step):
        name = "Leaky"
        gates = "al"
        biases = ("bias_ih",)
        presets: ClassVar[dict[str, NormScheme]] = {
            "layer": NormScheme(sum=Norm("layer"), bias_ih=None),
            "batch": NormScheme(input=Norm("batch"), hidden=Norm("batch")),
            "of_its_own": NormScheme(output=Norm("layer")),
        }

        def step(self, x: Tensor, h: Tensor, state: Any, norm: Any, scheme: Any) -> Any:
            a, leak = norm("sum", x + h).chunk(2, -1)
            return (state[0] + leak.sigmoid() * (a.tanh() - state[0]),)

    class Leaky(OneState):
        def __init__(self, norm: Any = None, zoneout: float = 0.0) -> None:
            super().__init__(
                LeakyStep(), I, H, 1, True, False, 0.0, False, None, F64, norm, zoneout, 0.0
            )

    class LeakyCell(OneStateCell):
        def __init__(self, norm: Any = None) -> None:
            super().__init__(LeakyStep(), I, H, True, None, F64, norm)

    yield Leaky, LeakyCell
    for table, before in ((registry.STEPS, cells), (registry.PRESETS, presets)):
        table.clear()
        table.update(before)


def by_hand(layer: Any, x: Tensor, h: Tensor) -> Tensor:
    a, leak = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T).chunk(2, -1)
    return h + leak.sigmoid() * (a.tanh() - h)


def test_it_is_computed(leaky: Any) -> None:
    layer = leaky[0]()
    assert dict(layer.named_parameters()).keys() == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    x = torch.randn(T, B, I, dtype=F64)
    output, last = layer(x, lengths=LENGTHS)
    for b, length in enumerate(LENGTHS):
        h = torch.zeros(H, dtype=F64)
        for t in range(length):
            h = by_hand(layer, x[t, b], h)
            assert_close(output[t, b], h, VALUES)
        assert_close(last[0, b], h, VALUES)
        assert not output[length:, b].any()


def test_its_presets_are_found(leaky: Any) -> None:
    layer, cell = leaky
    assert seqnorm.preset("of_its_own", "Leaky") == NormScheme(output=Norm("layer"))
    assert layer("layer").norm == seqnorm.preset("layer", "Leaky")
    with pytest.raises(ValueError, match=r"for Leaky, not for LSTM"):
        seqnorm.LSTM(I, H, norm="of_its_own")
    with pytest.raises(
        ValueError, match=r"not for Leaky; for Leaky there are layer, batch, of_its"
    ):
        layer("haste")
    with pytest.raises(ValueError, match=r"use the layer \(seqnorm\.Leaky\)"):
        cell("of_its_own")
    with pytest.raises(ValueError, match=r"a Leaky has no cell state"):
        layer(NormScheme(cell=Norm("layer")))


def test_torch_is_said_to_have_none(leaky: Any) -> None:
    packing = Packing.of_equal_lengths(B, T, torch.device("cpu"))
    layer, rows = leaky[0](), torch.zeros(B * T, I, dtype=F64)
    reasons = explain(layer.directions()[0], rows, packing, of_layer(layer, B))
    assert reasons["aten"] == "torch has no Leaky of its own"
    assert reasons["reference"] is None


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_stepping_it_is_the_layer(leaky: Any, norm: str | None) -> None:
    layer, cell = leaky[0](norm), leaky[1](norm)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x = torch.randn(T, B, I, dtype=F64)
    h = None
    expected = layer(x)[0]
    for t in range(T):
        h = cell(x[t], h, first_step=t)
        assert_close(h, expected[t], VALUES)
    assert list(cell.report().rows.values()) == list(layer.report().rows.values())


def test_its_zoneout_and_its_statistics(leaky: Any) -> None:
    layer = leaky[0]("batch", zoneout=1.0)
    x = torch.randn(T, B, I, dtype=F64)
    assert not layer(x)[0].any(), "a unit that is always held back stays at 0"
    assert layer.report().rows["norm_ih_l0.table"][: T + 1] == (B,) * T + (0,)
    assert seqnorm.reestimate_statistics(layer, [x]) == 1


def test_no_other_test_sees_it() -> None:
    assert "Leaky" not in registry.STEPS
    assert "of_its_own" not in seqnorm.PRESETS
    assert all("Leaky" not in schemes for schemes in seqnorm.PRESETS.values())
