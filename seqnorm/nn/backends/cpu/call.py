"""A call of the kernels: its tensors, and its other arguments.

Axes: T steps, B sequences, N packed rows, I inputs, H units, P = size of h (H, or that of a
projection), G gates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .plan import Plan, units_of


class Inputs(NamedTuple):
    """The tensors of a call.

    Attributes:
        input: (N, I), projected by ``weight_ih`` (G * H, I); without ``weight_ih``, the finished
            term W_ih x (N, G * H).
        weight_hh: (G * H, P), or (H,) of an IndRNN, or (G * H, H / heads).
        h_0, c_0: (B, P) and (B, H) the initial state; of an sLSTM c, n and m (B, 3 * H) in place of
            c.
        gain_x, gain_h, gain_c, bias_c: gains and bias of the norms.
        columns_x, columns_h, columns_c: (T, 2, .) mean and 1 / deviation of each step, for norms of
            the batch that compute no statistics of these rows; (1, 2, .) if it is pooled over time.
        before_x, before_h, before_c: (T, 4, .) of norms with Batch Renormalization that compute
            statistics of these rows: the running mean and 1 / deviation of each step, and the
            limits of r and d.
        stay_h, stay_c: (N, P) and (N, H), 1 where zoneout holds a unit back, else 0.
        bias_0, ...: biases, added at the places of the plan.
        weight_hr: (P, H) the projection of an LSTM.
    """

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
    before_x: Tensor | None
    before_h: Tensor | None
    before_c: Tensor | None
    stay_h: Tensor | None
    stay_c: Tensor | None
    bias_0: Tensor | None = None
    bias_1: Tensor | None = None
    bias_2: Tensor | None = None
    bias_3: Tensor | None = None
    weight_hr: Tensor | None = None


# The fields that are never None.
ALWAYS = ("input", "weight_hh", "h_0")
BIASES = Inputs._fields.index("bias_0")
COLUMNS = Inputs._fields.index("columns_x")
BEFORE = Inputs._fields.index("before_x")
STAYS = Inputs._fields.index("stay_h")


class Call(NamedTuple):
    """The arguments of a call that are not tensors.

    Attributes:
        sizes: rows of each step.
        zoneout: in inference, the probability for each part of the state; 0 if units are drawn.
        half: the dtype to which the operands of products with a matrix are rounded, or ``None``.
        scales: the names of the matrices of int8, and the scales of their rows.
    """

    plan: Plan
    sizes: list[int]
    zoneout: tuple[float, ...]
    half: torch.dtype | None = None
    scales: tuple[tuple[str, Tensor], ...] = ()

    def sizes_like(self, rows: Tensor) -> Tensor:
        """Return ``sizes`` as a tensor (T,) on the CPU, or as symbols of a graph."""
        if self.sizes and self.sizes[0] == self.sizes[-1]:
            return rows.new_full((len(self.sizes),), self.sizes[0], dtype=torch.int64, device="cpu")
        return rows.new_tensor(self.sizes, dtype=torch.int64, device="cpu")

    def own(self, inputs: Inputs) -> tuple[str, ...]:
        """Return the norms, of "x", "h" and "c", that compute statistics of the batch."""
        if self.plan.pooled:  # the others are of a row
            return ("x",) if inputs.columns_x is None else ()
        if not self.plan.batch:
            return ()
        terms = zip("xhc", self.plan.kinds, inputs[COLUMNS:BEFORE])
        return tuple([term for term, kind, given in terms if kind == "batch" and given is None])

    def columns(self, inputs: Inputs, term: str, steps: Any) -> tuple[Any, int, int]:
        """Return the shape of the columns that the norm of "x", "h" or "c" has for these steps.

        Args:
            steps: T, a number or a symbol of a graph.
        """
        hidden = self.plan.hidden_size
        width = hidden if term == "c" else len(self.plan.step.gates) * hidden
        before = inputs[BEFORE + "xhc".index(term)]
        return 1 if self.plan.pooled else steps, 2 if before is None else 4, width

    def check(self, inputs: Inputs) -> None:
        """Raise RuntimeError unless every tensor has the shape that the kernels rely on."""
        if self.plan.pooled and inputs.weight_ih is None:
            raise RuntimeError("weight_ih is missing: a norm over time is of its product")
        batch, width = inputs.h_0.shape
        hidden = width if inputs.weight_hr is None else units_of(self.plan.step, inputs.weight_hh)
        step = self.plan.step
        if inputs.weight_hr is not None and not step.projects:
            raise RuntimeError(f"a {step.name} has no projection weight_hr")
        steps, rows, gates = len(self.sizes), sum(self.sizes), len(step.gates) * hidden
        inner = gates if inputs.weight_ih is None else inputs.input.shape[-1]
        of_h = self.plan.sets[-1] * hidden  # units of the norm of h: not the candidate's, of a sum
        shapes: tuple[tuple[int, ...], ...] = (
            *((rows, inner), (gates, inner), step.hidden_shape(hidden, width)),
            *((batch, width), (batch, self.plan.carried)),
            *((gates,), (of_h,), (hidden,), (hidden,)),
            *((1 if self.plan.pooled else steps, 2, gates), (steps, 2, gates), (steps, 2, hidden)),
            *((steps, 4, gates), (steps, 4, gates), (steps, 4, hidden)),
            *((rows, width), (rows, hidden), (gates,), (gates,), (gates,), (of_h,)),
            (width, hidden),
        )
        for name, tensor, shape in zip(Inputs._fields, inputs, shapes):
            if tensor is not None and tensor.shape != shape:
                raise RuntimeError(f"{name} must be {shape}, got {tuple(tensor.shape)}")
