"""What every cell is that runs one step, for loops of one's own.

Axes: B sequences, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ...typed import called_as
from ..backends import reference
from ..check import as_integer, changed_options, check_not_negative, warn
from ..recurrence.direction import Direction, gather, initialise, register, small_batch
from ..recurrence.presets import described, resolve
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Nonlinear, Step
from ..statistics.report import Report, report
from .arguments import refuse_input, refuse_states
from .torch_contract import Outside


class RecurrentCell(Outside):
    """Parameters of one step, the forms of input and state.

    Args:
        cell: the mathematics of a step.
        input_size, ...: see ``LSTMCell``.
    """

    weight_ih: nn.Parameter

    def __init__(
        self,
        cell: Step,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | NormScheme | None,
    ) -> None:
        super().__init__()
        self.input_size = input_size = check_not_negative("input_size", input_size)
        self.hidden_size = hidden_size = check_not_negative("hidden_size", hidden_size)
        self.bias = bias
        self.norm = resolve(norm, cell)
        if self.norm is not None and not (input_size and hidden_size):
            raise ValueError(
                f"a norm needs units, and input_size is {input_size}, hidden_size {hidden_size}: "
                "a cell of no units has norm=None"
            )
        if self.norm is not None and self.norm.output is not None:
            raise ValueError(
                "the norm of the output stands after the recurrence, and a cell's output is its "
                f"state: use the layer (seqnorm.{cell.name}), or a scheme with output=None and a "
                "norm of your own on what you pass on"
            )
        self._cell = cell
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        register(self, "", cell, input_size, hidden_size, 0, bias, self.norm, factory)
        self._warned = False
        self.reset_parameters()

    def direction(self) -> Direction:
        """What the cell owns, for a call."""
        none = (0.0,) * len(self._cell.states)
        return gather(self, "", self._cell, self.norm, none)

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget all running statistics."""
        initialise(self.direction(), self.hidden_size)

    def report(self) -> Report:
        """How many rows the running statistics of every step rest on."""
        return report(self)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += changed_options(self, ["bias", "nonlinearity", "num_heads"])
        if self.norm is not None:
            parts.append(f"norm={described(self.norm, self._cell)}")
        return ", ".join(parts)

    def _run(
        self, input: Tensor, hx: tuple[Tensor, ...] | None, first_step: int | None
    ) -> tuple[Tensor, ...]:
        name = type(self).__name__
        if not isinstance(input, Tensor):
            refuse_input(name, input)
        if hx is not None and not (
            isinstance(hx, (tuple, list)) and all(isinstance(part, Tensor) for part in hx)
        ):
            states = self._cell.states
            refuse_states(name, states, hx[0] if len(states) == 1 else hx)
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for number, part in enumerate(() if hx is None else hx):
            if part.dim() not in (1, 2):
                which = f"hx[{number}]" if len(self._cell.states) > 1 else "hidden"
                raise ValueError(
                    f"{name}: Expected {which} to be 1D or 2D, got {part.dim()}D instead"
                )
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if x.shape[1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}"
            )
        if hx is None:
            # Under autocast the input may be half precision; a state is not, but in torch's cells.
            halve = self.norm is None and self._cell.fused is not None
            dtype = x.dtype if halve else self.weight_ih.dtype
            state = (x.new_zeros(len(x), self.hidden_size, dtype=dtype),) * len(self._cell.states)
        else:
            state = hx if batched else tuple(part.unsqueeze(0) for part in hx)
            self._check_state(state, len(x), batched)
        index, direction = self._index(first_step), self.direction()
        totals = reference.rows_together(direction, x)
        direction.check(1, index)
        if (
            self.training and not self._warned and not first_step
        ):  # later steps may well be left alone
            message = small_batch(self.norm, totals or [len(x)])
            if message is not None:
                self._warned = True
                warn(message)
        new = reference.single(direction, x, state, index, totals)
        return new if batched else tuple(part.squeeze(0) for part in new)

    def _check_state(self, state: tuple[Tensor, ...], batch: int, batched: bool) -> None:
        if len(state) != len(self._cell.states):
            raise ValueError(f"hx must hold {len(self._cell.states)} states, got {len(state)}")
        for number, part in enumerate(state):
            if part.dim() != 2:
                raise RuntimeError(
                    f"hidden{number} should be {'2-D' if batched else '1-D (unbatched)'} as the "
                    f"input is, got {part.dim() - (not batched)}-D"
                )
            if len(part) != batch:
                raise RuntimeError(
                    f"Input batch size {batch} doesn't match hidden{number} batch size {len(part)}"
                )
            if part.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{number} has inconsistent hidden_size: got {part.shape[1]}, "
                    f"expected {self.hidden_size}"
                )

    def _index(self, first_step: int | None) -> int:
        """The number of the step, which only statistics of their own for every step need."""
        norms = {} if self.norm is None else self.norm.norms
        per_step = any(norm.kind == "batch" for norm in norms.values())
        if self.training and any(norm.over_time for norm in norms.values()):
            raise RuntimeError(
                '"batch_pooled" averages over all steps, and a cell sees one: train the layer '
                f'(seqnorm.{self._cell.name}) and use the cell in eval() mode, or use "batch"'
            )
        if first_step is None:
            if per_step:
                raise ValueError(
                    'norm="batch" keeps statistics of every time step: say which one this is, '
                    "cell(input, hx, first_step=t), counting from 0"
                )
            return 0
        first_step = as_integer("first_step", first_step)
        if first_step < 0:
            raise ValueError(f"first_step counts from 0, got {first_step}")
        return first_step


class OneStateCell(RecurrentCell):
    """A cell whose state is h alone."""

    def forward(
        self, input: Tensor, hx: Tensor | None = None, first_step: int | None = None
    ) -> Tensor:
        """h (B, H) after one step; arguments as in ``LSTMCell.forward``, hx is h alone."""
        (h,) = self._run(input, None if hx is None else (hx,), first_step)
        return h

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


class NonlinearCell(OneStateCell):
    """A cell with a nonlinearity to choose.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    _step: ClassVar[type[Nonlinear]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
    ) -> None:
        step = self._step(nonlinearity)
        super().__init__(step, input_size, hidden_size, bias, device, dtype, norm)
        self.nonlinearity = nonlinearity
