"""What a call of the kernels is: its tensors, and what of it is no tensor.

Axes: T steps, B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...recurrence.scheme import NormScheme
from ...recurrence.step import Step
from .layout import Layout


class Inputs(NamedTuple):
    """The tensors of a call: ``input`` (N, I) is projected by weight_ih (G * H, I), or is W_ih x
    itself where there is None; weight_hh (G * H, H); states; gains; mean, 1 / deviation (T, 2, .)
    for norms of the batch that take no statistics of these rows; 1 where zoneout keeps a unit, else
    0, (N, H); biases to add."""

    input: Tensor
    weight_ih: Tensor | None
    weight_hh: Tensor
    h_0: Tensor
    c_0: Tensor | None
    gain_x: Tensor | None
    gain_h: Tensor | None
    gain_c: Tensor | None
    bias_c: Tensor | None
    columns_x: Tensor | None
    columns_h: Tensor | None
    columns_c: Tensor | None
    stay_h: Tensor | None
    stay_c: Tensor | None
    # At the places of the layout.
    bias_0: Tensor | None = None
    bias_1: Tensor | None = None
    bias_2: Tensor | None = None
    bias_3: Tensor | None = None


# The fields that are never None.
ALWAYS = ("input", "weight_hh", "h_0")
BIASES = Inputs._fields.index("bias_0")
COLUMNS = Inputs._fields.index("columns_x")
STAYS = Inputs._fields.index("stay_h")


class Plan(NamedTuple):
    """What of a call is no tensor.

    Attributes:
        sizes: rows of each step.
        zoneout: in inference, the probability for each part of the state; 0 where units are drawn.
    """

    cell: Step
    scheme: NormScheme | None
    layout: Layout
    sizes: list[int]
    zoneout: tuple[float, ...]

    def sizes_like(self, rows: Tensor) -> Tensor:
        """``sizes`` as a tensor (T,) where the rows are, symbols of a graph included."""
        if self.sizes and self.sizes[0] == self.sizes[-1]:
            return rows.new_full((len(self.sizes),), self.sizes[0], dtype=torch.int64)
        return rows.new_tensor(self.sizes, dtype=torch.int64)

    def own(self, inputs: Inputs) -> tuple[str, ...]:
        """Which norms, of "x", "h" and "c", take statistics of the batch from the rows of the
        call."""
        if not self.layout.batch:
            return ()
        terms = zip("xhc", self.layout.kinds, inputs[COLUMNS:STAYS])
        return tuple(term for term, kind, given in terms if kind == "batch" and given is None)

    def check(self, inputs: Inputs) -> None:
        """Raise RuntimeError where a tensor has not the shape that the kernels take for granted."""
        batch, hidden = inputs.h_0.shape
        steps, rows, gates = len(self.sizes), sum(self.sizes), self.layout.gates * hidden
        width = gates if inputs.weight_ih is None else inputs.input.shape[-1]
        of_gates, of_units, of_rows = (gates,), (hidden,), (rows, hidden)
        shapes: tuple[tuple[int, ...], ...] = (
            (rows, width),
            (gates, width),
            (gates, hidden),
            (batch, hidden),
            (batch, hidden),
            of_gates,
            of_gates,
            of_units,
            of_units,
            (steps, 2, gates),
            (steps, 2, gates),
            (steps, 2, hidden),
            of_rows,
            of_rows,
            *(of_gates,) * (len(Inputs._fields) - BIASES),
        )
        for name, tensor, shape in zip(Inputs._fields, inputs, shapes):
            if tensor is not None and tensor.shape != shape:
                raise RuntimeError(f"{name} must be {shape}, got {tuple(tensor.shape)}")

    def added(self, place: str, inputs: Inputs) -> Tensor | None:
        """The sum of the biases that are added at one place."""
        pairs = zip(inputs[BIASES:], self.layout.places)
        return total([bias for bias, at in pairs if bias is not None and place in at])


def total(terms: Sequence[Tensor]) -> Tensor | None:
    """The sum of these, and nothing of nothing."""
    return sum(terms[1:], terms[0]) if terms else None
