"""A layer of a preset, its parameters as a publication names them, and both answers compared.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor

import seqnorm

I, H, T, B = 3, 4, 5, 4  # noqa: E741 (the axes' letters)
EPS = 1e-5


class Parts:
    """Parameters of a layer by gate: ``p.W("f")`` (H, I), ``p.U("f")`` (H, H), ``p.b("f")`` (H,).

    Several letters stack the gates in the order in which the publication stacks them.
    """

    def __init__(self, cell: str, values: dict[str, Tensor]) -> None:
        self.order = {"LSTM": "ifgo", "GRU": "rzn"}[cell]
        self.values = values

    def take(self, name: str, gates: str, order: str | None = None) -> Tensor:
        order = self.order if order is None else order
        blocks = self.values[name].split(H)
        assert len(blocks) == len(order), name
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


def layer_and_parts(name: str, cell: str, randomised: bool) -> tuple[Any, Parts]:
    layer = getattr(seqnorm, cell)(I, H, norm=name, dtype=torch.float64)
    if randomised:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0.0, 0.7)
    return layer, Parts(cell, dict(layer.named_parameters()))


def run_layer(layer: Any, x: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
    single = len(states) == 1
    output, last = layer(x, states[0][None] if single else tuple(s[None] for s in states))
    return (output, last[0]) if single else (output, *(part[0] for part in last))


def compare_with(layer: Any, wanted: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> None:
    for what, expected, actual in zip(("output", "h", "c"), wanted, got):
        assert_close(actual, expected, VALUES, what)
    weights = [torch.randn_like(value) for value in wanted]
    names, parameters = zip(*layer.named_parameters())
    theirs, ours = (
        torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values)), parameters)
        for values in (wanted, got)
    )
    for name, expected, actual in zip(names, theirs, ours):
        assert_close(actual, expected, GRADIENTS, name)
