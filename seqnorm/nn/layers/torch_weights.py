"""Conversion of weights from torch's recurrent layers and cells, and back."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..recurrence.direction import Direction
from ..recurrence.scheme import NormScheme
from .cell import RecurrentCell
from .layer import RecurrentLayer

TorchLayer = TypeVar("TorchLayer", bound=nn.RNNBase)
TorchCell = TypeVar("TorchCell", bound=nn.RNNCellBase)
Ours = TypeVar("Ours", bound=RecurrentLayer)
OurCell = TypeVar("OurCell", bound=RecurrentCell)


# Layers and cells of this library by the class of torch's that they are.
COUNTERPARTS: dict[type[nn.Module], Any] = {}


class _Counterpart:
    """A class that torch has too, which ``COUNTERPARTS`` then lists."""

    torch_class: ClassVar[type[nn.Module]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "torch_class" in vars(cls):
            COUNTERPARTS[cls.torch_class] = cls


class TorchWeights(_Counterpart, RecurrentLayer, Generic[TorchLayer]):
    """A layer that exists in torch too."""

    torch_class: ClassVar[type[nn.RNNBase]]

    @classmethod
    def from_torch(
        cls: type[Ours],
        layer: TorchLayer,
        norm: str | NormScheme | None = None,
        *,
        zoneout: float | tuple[float, ...] = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> Ours:
        """Return a layer with the options, matrices and biases of a torch layer.

        Norms start as in a new layer. A scheme with fewer biases takes their sum into the vector
        that it keeps, or else into the bias of its norms. If z of a GRU takes the candidate
        (``update="write"``), its rows change sign, so that the layer computes the same.

        Raises:
            TypeError: the torch layer is of another class.
            ValueError: the scheme has no place for the biases.
        """
        _check_kind(cls, layer, cls.torch_class)  # type: ignore[attr-defined]  # of this class
        options = _options(layer, layer.all_weights[0][0])
        options |= {"norm": norm, "zoneout": zoneout, "recurrent_dropout": recurrent_dropout}
        options |= {"learn_initial_state": learn_initial_state}
        new = cls(**options)
        for direction, weights in zip(new.directions(), layer.all_weights):
            _take_over(direction, list(weights), layer.bias)
        return new.train(layer.training)

    def to_torch(self) -> TorchLayer:
        """Return the torch layer that computes the same.

        Raises:
            ValueError: torch has no such layer: this one has norms, zoneout, weight drop, learned
                states or heads.
        """
        for name in ("norm", "zoneout", "recurrent_dropout", "learn_initial_state"):
            value = getattr(self, name)
            if any(value) if isinstance(value, tuple) else value:
                raise ValueError(
                    f"torch.nn.{self.torch_class.__name__} has no {name}: only a layer without one "
                    "can go back"
                )
        if self.step.heads:
            raise ValueError(
                f"torch.nn.{self.torch_class.__name__} has no heads, and W_hh of this layer is "
                f"block-diagonal, heads={self.step.heads}: only a layer with heads=1 can go back"
            )
        if self.quantised:
            raise ValueError(
                f"torch.nn.{self.torch_class.__name__} has no weights of int8: call to_torch() "
                "before quantize_"
            )
        if self.step.fused is None:
            raise ValueError(f"torch has no layer of the step {self.step.name}")
        new: Any = self.torch_class(**_options(self, self.weight_ih_l0))
        new.load_state_dict(self.state_dict())
        return new.train(self.training)  # type: ignore[no-any-return]  # of torch_class


class TorchCellWeights(_Counterpart, RecurrentCell, Generic[TorchCell]):
    """A cell that exists in torch too."""

    torch_class: ClassVar[type[nn.RNNCellBase]]

    @classmethod
    def from_torch(
        cls: type[OurCell],
        cell: TorchCell,
        norm: str | NormScheme | None = None,
        *,
        learn_initial_state: bool = False,
    ) -> OurCell:
        """Return a cell with the options, matrices and biases of a torch cell.

        See ``seqnorm.LSTM.from_torch``.
        """
        _check_kind(cls, cell, cls.torch_class)  # type: ignore[attr-defined]  # of this class
        options = _options(cell, cell.weight_ih) | {"learn_initial_state": learn_initial_state}
        new = cls(**options, norm=norm)
        weights = [cell.weight_ih, cell.weight_hh]
        if cell.bias:
            weights += [cell.bias_ih, cell.bias_hh]
        _take_over(new.direction(), weights, cell.bias)
        return new.train(cell.training)


def _check_kind(cls: type[nn.Module], module: nn.Module, kind: type[nn.Module]) -> None:
    ours = isinstance(module, (RecurrentLayer, RecurrentCell))  # may derive from torch's class too
    if ours or not isinstance(module, kind):
        raise TypeError(
            f"seqnorm.{cls.__name__}.from_torch takes a torch.nn.{kind.__name__}, "
            f"got {'seqnorm.' if ours else ''}{type(module).__name__}"
        )


@torch.no_grad()
def _take_over(direction: Direction, weights: list[Tensor], bias: bool) -> None:
    """Copy torch's matrices and biases, in the order of its ``all_weights``."""
    if direction.step.heads:
        raise ValueError(
            f"W_hh of torch's layer has no blocks, and this {direction.step.name} has "
            f"heads={direction.step.heads}: take a layer with heads=1"
        )
    direction.weight_ih.copy_(direction.step.from_torch(weights[0], direction.scheme))
    direction.weight_hh.copy_(direction.step.from_torch(weights[1], direction.scheme))
    if direction.weight_hr is not None:
        direction.weight_hr.copy_(weights[-1])
    if bias:
        turned = (direction.step.from_torch(bias, direction.scheme) for bias in weights[2:4])
        _adopt_biases(direction, *turned)


def _options(module: nn.Module, weight: Tensor) -> dict[str, Any]:
    """Return the constructor arguments that torch's modules and ours share."""
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
    names += ["bidirectional", "nonlinearity"]
    if getattr(module, "proj_size", 0):  # an argument of the LSTM alone
        names.append("proj_size")
    options = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return options | {"device": weight.device, "dtype": weight.dtype}


def _adopt_biases(direction: Direction, bias_ih: Tensor, bias_hh: Tensor) -> None:
    """Copy both biases to the vectors of the scheme, else to those of its norms."""
    own = {site: norm.bias for site, norm in direction.norms.items()}
    x = direction.bias_ih if direction.bias_ih is not None else own.get("input")
    h = direction.bias_hh if direction.bias_hh is not None else own.get("hidden")
    if x is not None and h is not None:
        x.copy_(bias_ih)
        h.copy_(bias_hh)
        return
    step, scheme, total = direction.step, direction.scheme, bias_ih + bias_hh
    only = x if x is not None else h
    places: list[tuple[Tensor | None, str]] = [(only, step.gates)]
    if only is None and scheme is not None:
        places = [(own[site], span) for site, span in step.spans(scheme).items() if span]
    by_gate = dict(zip(step.gates, total.chunk(len(step.gates))))
    for place, span in places or [(None, "")]:
        if place is None:
            raise ValueError(
                "this norm scheme has no bias that could take over those of the torch layer: give "
                'it one (bias_ih="outside"), or a torch layer with bias=False'
            )
        place.copy_(torch.cat([by_gate[gate] for gate in span]))
