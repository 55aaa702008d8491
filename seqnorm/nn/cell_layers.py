"""The public cells: one step, for loops of one's own.

Axes: B sequences, I = input_size, H = hidden_size.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .backends import reference
from .cells import CELLS
from .check import check_sizes
from .direction import Direction, gather, initialise, register, small_batch
from .presets import resolve
from .reporting import Report, report
from .scheme import NormScheme


class _CellLayer(nn.Module):
    """What LSTMCell and GRUCell share."""

    _cell_name: str
    weight_ih: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | NormScheme | None,
    ) -> None:
        super().__init__()
        check_sizes(input_size, hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.norm = resolve(norm, self._cell_name)
        self._cell = CELLS[self._cell_name]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        register(self, "", self._cell, input_size, hidden_size, 0, bias, self.norm, factory)
        self._warned = False
        self.reset_parameters()

    def _direction(self) -> Direction:
        none = (0.0,) * len(self._cell.states)
        return gather(self, "", self._cell, self.norm, none)

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget all running statistics."""
        initialise(self._direction(), self.hidden_size)

    def report(self) -> Report:
        """How many rows the running statistics of every step rest on."""
        return report(self)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"] + ([] if self.bias else ["bias=False"])
        return ", ".join(parts + ([] if self.norm is None else self.norm.placement()))

    def _run(
        self, input: Tensor, hx: tuple[Tensor, ...] | None, step: int | None
    ) -> tuple[Tensor, ...]:
        name = type(self).__name__
        if len(self._cell.states) > 1 and isinstance(hx, Tensor):
            raise TypeError(f"{name}: hx must be a tuple (h, c), got one Tensor")
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
            # Under autocast the input may be half precision; a normalised state is not.
            dtype = x.dtype if self.norm is None else self.weight_ih.dtype
            state = (x.new_zeros(len(x), self.hidden_size, dtype=dtype),) * len(self._cell.states)
        else:
            state = hx if batched else tuple(part.unsqueeze(0) for part in hx)
            self._check_state(state, len(x), batched)
        if self.training and not self._warned and not step:  # later steps may well be left alone
            message = small_batch(self.norm, [len(x)])
            if message is not None:
                self._warned = True
                warnings.warn(message, stacklevel=5)
        new = reference.single(self._direction(), x, state, self._index(step))
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

    def _index(self, step: int | None) -> int:
        """The number of the step, which only statistics of their own for every step need."""
        norms = {} if self.norm is None else self.norm.norms
        per_step = any(norm.kind == "batch" for norm in norms.values())
        if self.training and any(norm.over_time for norm in norms.values()):
            raise RuntimeError(
                '"batch_pooled" averages over all steps, and a cell sees one: train the layer '
                '(seqnorm.LSTM, seqnorm.GRU) and use the cell in eval() mode, or use "batch"'
            )
        if step is None:
            if per_step:
                raise ValueError(
                    'norm="batch" keeps statistics of every time step: say which one this is, '
                    "cell(input, hx, step=t), counting from 0"
                )
            return 0
        if not isinstance(step, int) or isinstance(step, bool):
            raise TypeError(f"step should be of type int, got: {type(step).__name__}")
        if step < 0:
            raise ValueError(f"step counts from 0, got {step}")
        return step


class LSTMCell(_CellLayer):
    """One step of ``seqnorm.LSTM``; ``torch.nn.LSTMCell`` with ``norm``.

    Parameters are ``weight_ih`` (4H, I), ``weight_hh`` (4H, H), ``bias_ih`` and ``bias_hh`` (4H,)
    as the scheme uses them, and ``norm_ih``, ``norm_hh``, ``norm_sum``, ``norm_cell``. Stepped over
    a sequence it gives what the layer gives, running statistics included.

    Raises:
        TypeError, ValueError: a size or norm that means nothing, at construction.
    """

    _cell_name = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, norm)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """(h, c) after one step.

        Args:
            input: (B, I) or (I,).
            hx: (h (B, H), c (B, H)) or (H,) each; zeros if None.
            step: number of this step from 0; needed by norm="batch" only.

        Raises:
            ValueError, RuntimeError: wrong shapes, as torch raises them; a missing ``step``.
        """
        h, c = self._run(input, hx, step)
        return h, c


class GRUCell(_CellLayer):
    """One step of ``seqnorm.GRU``; ``torch.nn.GRUCell`` with ``norm``. See ``LSTMCell``."""

    _cell_name = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, norm)

    def forward(self, input: Tensor, hx: Tensor | None = None, step: int | None = None) -> Tensor:
        """h (B, H) after one step; arguments as in ``LSTMCell.forward``, hx is h alone."""
        (h,) = self._run(input, None if hx is None else (hx,), step)
        return h
