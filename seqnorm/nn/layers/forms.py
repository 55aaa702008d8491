"""The constructors and types of the library's own layers and cells, stated once.

Axes: T steps, B sequences, I = input_size, H = hidden_size, L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ...typed import called_as
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Nonlinear, Step
from .cell import RecurrentCell
from .layer import RecurrentLayer

State = TypeVar("State")


def passed(arguments: dict[str, Any], *own: str) -> dict[str, Any]:
    """Return the ``locals()`` of a constructor, without its own, as arguments of its base class."""
    left_out = ("self", "__class__", *own)
    return {name: arguments[name] for name in arguments if name not in left_out}


class Layer(RecurrentLayer, Generic[State]):
    """A layer of one published step with a state of type ``State``."""

    step_class: ClassVar[type[Step]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
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
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(self.step_class(), **passed(locals()))

    if TYPE_CHECKING:

        @overload
        def forward(
            self,
            input: PackedSequence,
            hx: State | None = None,
            lengths: None = None,
            *,
            first_step: int | Tensor = 0,
            resets: Tensor | PackedSequence | None = None,
            cu_seqlens: None = None,
        ) -> tuple[PackedSequence, State]: ...

        @overload
        def forward(
            self,
            input: Tensor,
            hx: State | None = None,
            lengths: Tensor | Sequence[int] | None = None,
            *,
            first_step: int | Tensor = 0,
            resets: Tensor | None = None,
            cu_seqlens: Tensor | Sequence[int] | None = None,
        ) -> tuple[Tensor, State]: ...

        def forward(self, *args: Any, **options: Any) -> Any: ...

        @called_as(forward)
        def __call__(self) -> None: ...


class NonlinearLayer(Layer[Tensor]):
    """A layer of a step with a choice of the nonlinearity.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class: ClassVar[type[Nonlinear]]

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
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals(), "nonlinearity")
        RecurrentLayer.__init__(self, self.step_class(nonlinearity), **options)
        self.nonlinearity = nonlinearity


class Cell(RecurrentCell, Generic[State]):
    """A cell of one published step with a state of type ``State``."""

    step_class: ClassVar[type[Step]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(self.step_class(), **passed(locals()))

    if TYPE_CHECKING:

        def forward(
            self,
            input: Tensor,
            hx: State | None = None,
            first_step: int | Tensor | None = None,
            *,
            resets: Tensor | None = None,
        ) -> State: ...

        @called_as(forward)
        def __call__(self) -> None: ...


class NonlinearCell(Cell[Tensor]):
    """A cell of a step with a choice of the nonlinearity.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class: ClassVar[type[Nonlinear]]

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
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals(), "nonlinearity")
        RecurrentCell.__init__(self, self.step_class(nonlinearity), **options)
        self.nonlinearity = nonlinearity
