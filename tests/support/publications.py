"""Comparison of a layer of a preset with code in the notation of its publication.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hidden_states import as_hx, parts_of
from oracle_cells import GATES
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor

import seqnorm

I, H, T, B = 3, 4, 5, 4  # noqa: E741 (the axes' letters)
EPS = 1e-5
State = tuple[Tensor, ...]


def N(  # noqa: N802 (the equations' letter)
    z: Tensor, gain: Tensor | float, bias: Tensor | float = 0.0, eps: float = EPS
) -> Tensor:
    """LayerNorm of a vector: biased variance, eps under the root."""
    mean = sum(z) / len(z)
    var = sum((z - mean) ** 2) / len(z)
    return gain * (z - mean) / torch.sqrt(var + eps) + bias


class Parts:
    """Parameters of a layer by gate: ``p.W("f")`` (H, I), ``p.U("f")`` (H, H), ``p.b("f")`` (H,).

    A cell with a single gate calls it "h".

    Several letters stack the gates in the order of the publication.
    """

    def __init__(self, cell: str, values: dict[str, Tensor]) -> None:
        self.order = GATES[cell]
        self.values = values

    def take(self, name: str, gates: str, order: str | None = None) -> Tensor:
        order = self.order if order is None else order
        blocks = self.values[name].chunk(len(order))
        assert len({block.shape for block in blocks}) == 1, name
        return torch.cat([blocks[order.index(gate)] for gate in gates])

    def W(self, gates: str) -> Tensor:  # noqa: N802 (as N)
        return self.take("weight_ih_l0", gates)

    def U(self, gates: str) -> Tensor:  # noqa: N802 (as N)
        return self.take("weight_hh_l0", gates)

    def b(self, gates: str) -> Tensor:
        return self.take("bias_ih_l0", gates)

    def b_hh(self, gates: str) -> Tensor:
        return self.take("bias_hh_l0", gates)

    def gain(self, site: str, gates: str, order: str | None = None) -> Tensor:
        return self.take(f"norm_{site}_l0.weight", gates, order)

    def beta(self, site: str, gates: str, order: str | None = None) -> Tensor:
        return self.take(f"norm_{site}_l0.bias", gates, order)

    @property
    def cell_norm(self) -> tuple[Tensor, Tensor]:
        return self.values["norm_cell_l0.weight"], self.values["norm_cell_l0.bias"]


def layer_and_parts(
    name: str, cell: str, randomised: bool, hidden: int = H, **options: Any
) -> tuple[Any, Parts]:
    layer = getattr(seqnorm, cell)(I, hidden, norm=name, dtype=torch.float64, **options)
    if randomised:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0.0, 0.7)
    return layer, Parts(cell, dict(layer.named_parameters()))


def run_layer(layer: Any, x: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
    output, last = layer(x, as_hx([state[None] for state in states]))
    return (output, *(part[0] for part in parts_of(last)))


def row_by_row(
    step: Callable[[Parts, Tensor, State], State], p: Parts, x: Tensor, states: list[Tensor]
) -> tuple[Tensor, ...]:
    """Return outputs (T, B, H) and final states (B, H) of a cell, computed row by row."""
    outputs, finals = [], []
    for b in range(x.shape[1]):
        state: State = tuple(part[b] for part in states)
        rows = []
        for x_t in x[:, b]:
            state = step(p, x_t, state)
            rows.append(state[0])
        outputs.append(torch.stack(rows))
        finals.append(state)
    return (torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*finals)))


def compare_with(layer: Any, wanted: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> None:
    assert len(wanted) == len(got)
    for number, (expected, actual) in enumerate(zip(wanted, got)):
        assert_close(actual, expected, VALUES, f"state {number - 1}" if number else "output")
    weights = [torch.randn_like(value) for value in wanted]
    names, parameters = zip(*layer.named_parameters())
    theirs, ours = (
        torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values)), parameters)
        for values in (wanted, got)
    )
    for name, expected, actual in zip(names, theirs, ours):
        assert_close(actual, expected, GRADIENTS, name)
