"""RecurrentLayer layers whose state is h alone.

Axes: T steps, B sequences, I = input_size, H = hidden_size, L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ...typed import called_as
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Nonlinear, Step
from .layer import RecurrentLayer


class OneState(RecurrentLayer):
    """A layer whose state is h alone."""

    check_forward_args = nn.RNNBase.check_forward_args
    permute_hidden = nn.RNNBase.permute_hidden

    def __init__(
        self,
        cell: Step,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | NormScheme | None,
        zoneout: float,
        recurrent_dropout: float,
    ) -> None:
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
            norm,
            (zoneout,),
            recurrent_dropout,
        )

    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: Tensor | None = None,
        lengths: None = None,
        *,
        first_step: int = 0,
    ) -> tuple[PackedSequence, Tensor]: ...

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        first_step: int = 0,
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        first_step: int = 0,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run over whole sequences; as ``LSTM.forward``, with h_0 and h_n (L * D, B, H) alone."""
        output, (h,) = self._run(input, None if hx is None else (hx,), lengths, first_step)
        return output, h

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...


class NonlinearLayer(OneState):
    """A layer whose cell has a nonlinearity to choose.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    _step: ClassVar[type[Nonlinear]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            self._step(nonlinearity),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            norm,
            zoneout,
            recurrent_dropout,
        )
        self.nonlinearity = nonlinearity
