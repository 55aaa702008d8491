"""Weights from torch's recurrent layers, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..recurrence.direction import Direction
from ..recurrence.scheme import NormScheme
from ..recurrence.site_norms import SiteNorm
from .cell import RecurrentCell
from .layer import RecurrentLayer

Layer = TypeVar("Layer", bound=RecurrentLayer)
CellLike = TypeVar("CellLike", bound=RecurrentCell)
TorchLayer = TypeVar("TorchLayer", nn.LSTM, nn.GRU, nn.RNN)


def adopt(
    cls: type[Layer],
    layer: nn.RNNBase,
    kind: type[TorchLayer],
    norm: str | NormScheme | None,
    **options: Any,
) -> Layer:
    """A layer of ``cls`` with the options, matrices and biases of a torch layer of class ``kind``.

    Raises:
        TypeError: the torch layer is of another class.
    """
    _check_kind(cls, layer, kind)
    weight = layer.all_weights[0][0]
    options |= _options(layer)
    new = cls(**options, device=weight.device, dtype=weight.dtype, norm=norm)
    for direction, weights in zip(new.directions(), layer.all_weights):
        _take_over(direction, list(weights), layer.bias)
    return new.train(layer.training)


def adopt_cell(
    cls: type[CellLike], cell: nn.RNNCellBase, kind: type[nn.RNNCellBase], norm: Any
) -> CellLike:
    """``adopt`` for a single step.

    Raises:
        TypeError: the torch cell is of another class.
    """
    _check_kind(cls, cell, kind)
    weight = cell.weight_ih
    options = {name: getattr(cell, name) for name in ("input_size", "hidden_size", "bias")}
    if hasattr(cell, "nonlinearity"):
        options["nonlinearity"] = cell.nonlinearity
    new = cls(**options, device=weight.device, dtype=weight.dtype, norm=norm)
    weights = [cell.weight_ih, cell.weight_hh]
    if cell.bias:
        weights += [cell.bias_ih, cell.bias_hh]
    _take_over(new.direction(), weights, cell.bias)
    return new.train(cell.training)


def _check_kind(cls: type[nn.Module], module: nn.Module, kind: type[nn.Module]) -> None:
    ours = isinstance(module, (RecurrentLayer, RecurrentCell))  # and torch's too, it may be
    if ours or not isinstance(module, kind):
        raise TypeError(
            f"seqnorm.{cls.__name__}.from_torch takes a torch.nn.{kind.__name__}, "
            f"got {'seqnorm.' if ours else ''}{type(module).__name__}"
        )


@torch.no_grad()
def _take_over(direction: Direction, weights: list[Tensor], bias: bool) -> None:
    """Copy torch's matrices and biases, in the order of its ``all_weights``."""
    direction.weight_ih.copy_(_turn(direction, weights[0]))
    direction.weight_hh.copy_(_turn(direction, weights[1]))
    if direction.weight_hr is not None:
        direction.weight_hr.copy_(weights[-1])
    if bias:
        _adopt_biases(direction, _turn(direction, weights[2]), _turn(direction, weights[3]))


def release(layer: RecurrentLayer, kind: type[TorchLayer]) -> TorchLayer:
    """The torch layer with the same parameters.

    Raises:
        ValueError: torch has no layer that computes the same.
    """
    for name in ("norm", "zoneout", "recurrent_dropout"):
        value = getattr(layer, name)
        if any(value) if isinstance(value, tuple) else value:
            raise ValueError(
                f"torch.nn.{kind.__name__} has no {name}: only a layer without one can go back"
            )
    weight = layer.all_weights[0][0]
    new = kind(**_options(layer), device=weight.device, dtype=weight.dtype)
    new.load_state_dict(layer.state_dict())
    return new.train(layer.training)


def _options(layer: RecurrentLayer | nn.RNNBase) -> dict[str, Any]:
    """The constructor arguments that torch's layers and ours share."""
    names = ["input_size", "hidden_size", "num_layers", "bias"]
    names += ["batch_first", "dropout", "bidirectional"]
    if layer.proj_size:  # an argument of the LSTM alone
        names.append("proj_size")
    if hasattr(layer, "nonlinearity"):  # of the RNN alone
        names.append("nonlinearity")
    return {name: getattr(layer, name) for name in names}


def _turn(direction: Direction, weight: Tensor) -> Tensor:
    """Change the sign of a GRU's z where it means the opposite of torch's."""
    scheme = direction.scheme
    if scheme is None or "z" not in direction.cell.gates or scheme.update == "keep":
        return weight
    r, z, n = weight.chunk(3)
    return torch.cat([r, -z, n])


def _adopt_biases(direction: Direction, bias_ih: Tensor, bias_hh: Tensor) -> None:
    sites = direction.sites
    x = direction.bias_ih if direction.bias_ih is not None else _norm_bias(sites.get("input"))
    h = direction.bias_hh if direction.bias_hh is not None else _norm_bias(sites.get("hidden"))
    if x is not None and h is not None:
        x.copy_(bias_ih)
        h.copy_(bias_hh)
        return
    total = bias_ih + bias_hh
    only = x if x is not None else h
    if only is not None:
        only.copy_(total)
        return
    if direction.scheme is not None:
        size = len(bias_ih) // len(direction.cell.gates)
        by_gate = dict(zip(direction.cell.gates, total.split(size)))
        spans = direction.cell.spans(direction.scheme)
        places = [(_norm_bias(sites[site]), span) for site, span in spans.items() if span]
        if places and all(place is not None for place, _ in places):
            for place, span in places:
                assert place is not None
                place.copy_(torch.cat([by_gate[gate] for gate in span]))
            return
    raise ValueError(
        "this norm scheme has no bias that could take over those of the torch layer: give it one "
        '(bias_ih="outside"), or a torch layer with bias=False'
    )


def _norm_bias(site: SiteNorm | None) -> Tensor | None:
    return None if site is None else site.bias
