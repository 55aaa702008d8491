"""Cells, which compute one step for a time loop of the user.

Axes: B sequences, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..backends import reference
from ..check import as_integer, check_flag, check_not_negative
from ..graphs import asks_for_torch_alone
from ..recurrence.direction import Direction, gather, initialise, register
from ..recurrence.int8 import dtype_of
from ..recurrence.presets import resolve
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Step
from ..recurrence.windows import refuse_window
from .arguments import check_states, check_step, refuse_input
from .exported import export_cell
from .inference import infer_cell
from .resets import anew, check_first_steps, check_resets
from .torch_contract import TorchTools


class RecurrentCell(TorchTools):
    """One step of ``seqnorm.RecurrentLayer``, for a time loop of the user.

    Args:
        step: the mathematics of a step, a ``Step``.
        input_size, hidden_size, bias, device, dtype: as in ``torch.nn.LSTMCell``.
        norm: ``None``, the name of a preset of the step, or a ``NormScheme``.
        learn_initial_state: if true, the initial state is learned, see ``seqnorm.LSTM``.

    Raises:
        TypeError, ValueError: a size or norm is invalid.
    """

    weight_ih: nn.Parameter
    state_of_caller = True  # a stream could not keep it
    _options = ("bias", "nonlinearity", "num_heads", "heads", "learn_initial_state")

    def __init__(
        self,
        step: Step,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        self.step = check_step(step)
        self.input_size = input_size = check_not_negative("input_size", input_size)
        self.hidden_size = hidden_size = check_not_negative("hidden_size", hidden_size)
        self.bias = bias
        self.norm = resolve(norm, step)
        norms = [] if self.norm is None else self.norm.norms.values()
        self.over_batch = any(each.over_batch for each in norms)
        self.counts_steps = any(each.over_batch and not each.over_time for each in norms)
        self.learn_initial_state = check_flag("learn_initial_state", learn_initial_state)
        if self.norm is not None and not (input_size and hidden_size):
            raise ValueError(
                f"a norm needs units, and input_size is {input_size}, hidden_size {hidden_size}: "
                "use norm=None"
            )
        if self.norm is not None and self.norm.output is not None:
            raise ValueError(
                "the norm of the output stands after the recurrence, and a cell's output is its "
                f"state: use the layer ({self._layer_name()}), or a scheme with output=None and a "
                "norm of your own on what you pass on"
            )
        refuse_window(
            self.norm,
            "a cell computes one step, without the earlier ones",
            f"use the layer ({self._layer_name()}), or leave window=None",
        )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        register(self, "", step, input_size, hidden_size, 0, bias, self.norm, factory)
        for letter in step.learned if self.learn_initial_state else "":
            initial = torch.empty(hidden_size, device=device, dtype=dtype)
            self.register_parameter(f"{letter}_0", nn.Parameter(initial))
        self._warned = False
        self._prepared = None
        self.reset_parameters()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}

    def direction(self) -> Direction:
        """Return the parameters and norms of the cell."""
        return gather(self, "", self.step, self.norm, (0.0,) * len(self.step.states))

    def directions(self) -> list[Direction]:
        """Return ``direction()`` in a list, as layers have one."""
        return [self.direction()]

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget all running statistics; learned states are zero."""
        initialise(self.direction(), self.hidden_size)
        for letter in self.step.learned if self.learn_initial_state else "":
            nn.init.zeros_(getattr(self, f"{letter}_0"))

    def forward(
        self,
        input: Tensor,
        hx: Any = None,
        first_step: int | Tensor | None = None,
        *,
        resets: Tensor | None = None,
    ) -> Any:
        """Return the state after one step.

        Args:
            input: (B, I) or (I,).
            hx: the old state: (h (B, H), c (B, H)) of an LSTM, h of a step whose state is h alone;
                (H,) each for unbatched input. If None, it is zero, or learned with
                ``learn_initial_state``.
            first_step: number of this step, from 0, or (B,) one for each sequence; only
                norm="batch" needs it.
            resets: (B,), or () for unbatched input: true where a sequence begins anew, so that its
                old state is the initial one and this is its step 0.

        Raises:
            TypeError, ValueError, RuntimeError: a shape is wrong, as torch raises it, or
                ``first_step`` is missing.
        """
        single = len(self.step.states) == 1
        states = (hx,) if single and hx is not None else hx
        if self.quantised:
            self._refuse_training()
        compiling = torch.compiler.is_compiling()
        if compiling and asks_for_torch_alone():
            state = export_cell(self, input, states, first_step, resets)
            return state[0] if single else state
        if not torch.is_grad_enabled() and not compiling:
            number = 0 if first_step is None and not self.over_batch else first_step
            found = infer_cell(self, input, states, number, resets)
            if found is not None:
                return found[0] if single else found
        state = self._run(input, states, first_step, resets)
        return state[0] if single else state

    def own_state(self, rows: int | None, input: Tensor) -> tuple[Tensor, ...]:
        """Return the state with which sequences begin, (rows, H) each, or (H,) for None.

        Args:
            input: any tensor on the device and, without a norm, of the dtype of the input.
        """
        # Under autocast the input may be half precision, but only torch's cells halve a state.
        halve = self.norm is None and self.step.fused is not None
        dtype = input.dtype if halve else dtype_of(self, "weight_ih")
        shape = (self.hidden_size,) if rows is None else (rows, self.hidden_size)
        if not self.learn_initial_state:
            return (input.new_zeros(shape, dtype=dtype),) * len(self.step.states)
        zeros = input.new_zeros(shape, dtype=dtype)
        return tuple(
            [
                getattr(self, f"{letter}_0").to(dtype).expand(shape)
                if letter in self.step.learned
                else zeros
                for letter in self.step.states
            ]
        )

    def checked(
        self, input: Any, hx: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, bool]:
        """Return x (B, I), the state (B, H) if there is one, and whether the call has a batch."""
        name = type(self).__name__
        if not isinstance(input, Tensor):
            refuse_input(name, input)
        if hx is not None:
            check_states(name, self.step.states, hx)
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for number, part in enumerate(() if hx is None else hx):
            if part.dim() not in (1, 2):
                which = f"hx[{number}]" if len(self.step.states) > 1 else "hidden"
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
            return x, None, batched
        state = hx if batched else tuple(part.unsqueeze(0) for part in hx)
        self._check_state(state, x.shape[0], batched)
        return x, state, batched

    def _run(
        self,
        input: Tensor,
        hx: tuple[Tensor, ...] | None,
        first_step: int | Tensor | None,
        resets: Tensor | None,
    ) -> tuple[Tensor, ...]:
        x, given, batched = self.checked(input, hx)
        state = self.own_state(len(x), x) if given is None else given
        if resets is not None:
            resets = check_resets(resets, tuple(input.shape[:-1]), "B," if batched else "")
            resets = resets.to(x.device).reshape(-1)
            state = anew(state, self.own_state(1, state[0]), resets)
        direction = self.direction()
        if first_step is None and resets is not None and self.counts_steps and resets.all():
            first_step = 0
        if first_step is not None and (resets is not None or isinstance(first_step, Tensor)):
            numbers = torch.as_tensor(check_first_steps(first_step, len(x), False))
            numbers = numbers.expand(len(x))
            if resets is not None and self.counts_steps:
                numbers = torch.where(resets.cpu(), 0, numbers)
            first_step = int(numbers[0]) if len(x) else 0
            if self.counts_steps and bool((numbers != first_step).any()):
                new = self._run_apart(direction, x, state, numbers)
                return new if batched else tuple(part.squeeze(0) for part in new)
        index = self._index(first_step)
        totals = reference.rows_together(direction, x, index)
        direction.check(1, index)
        # Later steps may well have few rows.
        if self.training and not index:
            self._warn_of_few_rows(totals or [len(x)])
        new = reference.single(direction, x, state, index, totals)
        return new if batched else tuple(part.squeeze(0) for part in new)

    def _run_apart(
        self, direction: Direction, x: Tensor, state: tuple[Tensor, ...], numbers: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute the rows of each step by themselves.

        Args:
            numbers: (B,) the step of each row.
        """
        reference.rows_together(direction, x, None)  # refuses shared statistics
        steps = [self._index(number) for number in numbers.unique().tolist()]
        for step in steps:
            direction.check(1, step)
        for step in steps:
            rows = (numbers == step).nonzero()[:, 0].to(x.device)
            part = tuple([old.index_select(0, rows) for old in state])
            found = reference.single(direction, x.index_select(0, rows), part, step, None)
            state = tuple([old.index_copy(0, rows, new) for old, new in zip(state, found)])
        return state

    def _check_state(self, state: tuple[Tensor, ...], batch: int, batched: bool) -> None:
        if len(state) != len(self.step.states):
            raise ValueError(f"hx must hold {len(self.step.states)} states, got {len(state)}")
        for number, part in enumerate(state):
            if part.dim() != 2:
                raise RuntimeError(
                    f"hidden{number} should be {'2-D' if batched else '1-D (unbatched)'} as the "
                    f"input is, got {part.dim() - (not batched)}-D"
                )
            if part.shape[0] != batch:
                raise RuntimeError(
                    f"Input batch size {batch} doesn't match hidden{number} batch size "
                    f"{part.shape[0]}"
                )
            if part.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{number} has inconsistent hidden_size: got {part.shape[1]}, "
                    f"expected {self.hidden_size}"
                )

    def _layer_name(self) -> str:
        published = type(self.step).__module__.startswith(__name__.partition(".")[0] + ".")
        return f"seqnorm.{self.step.name if published else 'RecurrentLayer'}"

    def _index(self, first_step: int | Tensor | None) -> int:
        """Return the number of the step, which only the statistics of every step need."""
        norms = {} if self.norm is None else self.norm.norms
        if self.training and any(norm.over_time for norm in norms.values()):
            raise RuntimeError(
                '"batch_pooled" averages over all steps, and a cell sees one: train the layer '
                f'({self._layer_name()}) and use the cell in eval() mode, or use "batch"'
            )
        if first_step is None:
            if self.counts_steps:
                raise ValueError(
                    'norm="batch" keeps statistics of every time step: say which one this is, '
                    "cell(input, hx, first_step=t), counting from 0"
                )
            return 0
        first_step = as_integer("first_step", first_step)
        if first_step < 0:
            raise ValueError(f"first_step counts from 0, got {first_step}")
        return first_step
