"""The side of a recurrent layer or cell that other code and torch's tools meet without a call."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ..check import refuse_scripting, warn
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Step
from .arguments import explaining

_WEIGHTS = ("_all_weights", "_flat_weights", "_flat_weights_names")


class Outside(nn.Module):
    """The part of a layer or cell that refuses what it cannot do, and says so."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = explaining(cls.__init__)  # type: ignore[method-assign]

    __prepare_scriptable__ = refuse_scripting

    @property
    def qconfig(self) -> Any:
        """How ``torch.ao.quantization`` would quantise the module, if it could."""
        if "qconfig" not in self.__dict__:
            raise AttributeError("qconfig")
        return self.__dict__["qconfig"]

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        # It marks every module of a model, and then leaves alone those that it does not know.
        if "qconfig" not in self.__dict__:
            name = type(self).__name__
            also = "; with norm=None, to_torch() gives a layer that can be quantised"
            warn(
                f"seqnorm.{name} stays as it is, in floating point: torch.ao.quantization has no "
                f"quantised form of it{also if hasattr(self, 'to_torch') else ''}"
            )
        self.__dict__["qconfig"] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("qconfig", None)


class OutsideLayer(Outside):
    """The part of a layer that others read without calling it: torch's own names of its weights.

    The lists are made anew at every reading, as tuples, so that writing to them raises an error.
    Of a layer with a norm reading them raises RuntimeError, in ``hasattr`` too: torch would put a
    text of its own in the place of an AttributeError's.
    """

    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    bidirectional: bool
    proj_size: int
    norm: NormScheme | None
    zoneout: tuple[float, ...]
    recurrent_dropout: float
    _cell: Step
    # The one direction that this is, if it is one of two alone.
    _ways: slice | None = None
    __jit_unused_properties__: ClassVar[list[str]] = ["all_weights", "mode", "qconfig", *_WEIGHTS]

    get_expected_hidden_size = nn.RNNBase.get_expected_hidden_size
    check_hidden_size = nn.RNNBase.check_hidden_size

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][self._ways or slice(self._directions)]

    def _names(self) -> list[list[str]]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [
            [name + suffix for name in names if getattr(self, name + suffix, None) is not None]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def flatten_parameters(self) -> None:
        """Does nothing: there for code that calls it on torch's layers."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """Matrices and biases of every layer and direction, as torch's layers list them."""
        return [[getattr(self, name) for name in names] for names in self._names()]

    @property
    def mode(self) -> str:
        """The name of the cell, for an RNN with its nonlinearity, as torch's layers have it."""
        nonlinearity = getattr(self, "nonlinearity", None)
        return self._cell.name + (f"_{nonlinearity.upper()}" if nonlinearity else "")

    @property
    def _all_weights(self) -> tuple[tuple[str, ...], ...]:
        self._check_plain("_all_weights")
        return tuple(map(tuple, self._names()))

    @property
    def _flat_weights_names(self) -> tuple[str, ...]:
        self._check_plain("_flat_weights_names")
        return tuple(name for names in self._names() for name in names)

    @property
    def _flat_weights(self) -> tuple[Tensor, ...]:
        self._check_plain("_flat_weights")
        return tuple(getattr(self, name) for names in self._names() for name in names)

    def __dir__(self) -> list[str]:
        # These may refuse, and code that goes through all attributes does not mean them.
        return [name for name in super().__dir__() if name not in _WEIGHTS]  # type: ignore[no-untyped-call]  # torch's

    def _check_plain(self, name: str) -> None:
        """Raise RuntimeError where these weights are not all that the layer computes with."""
        found = [word for word in ("norm", "recurrent_dropout") if getattr(self, word)]
        found += ["zoneout"] if any(self.zoneout) else []
        if self._cell.fused is None:
            found = [f"a cell that torch has not, {self._cell.name}"]
        if found:
            raise RuntimeError(
                f"{name} is for code that computes torch's layer with these weights itself, and "
                f"this layer has {' and '.join(found)}, which would be left out: call the layer; "
                "all_weights and named_parameters() list its parameters"
            )
