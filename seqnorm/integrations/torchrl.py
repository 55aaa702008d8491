"""torchrl's ``LSTMModule`` and ``GRUModule`` with normalised layers::

    from seqnorm.integrations.torchrl import LSTMModule

    lstm = LSTMModule(4, 64, norm="layer", in_key="observation", out_key="features")
    environment = environment.append_transform(lstm.make_tensordict_primer())

They derive from torchrl's modules and keep their interface: ``in_keys`` and ``out_keys``,
``is_init``, ``torchrl.modules.set_recurrent_mode``, ``make_tensordict_primer``. Without a norm they
compute the same. torchrl pads the trajectories of a batch to one length. These modules cut the
batch where trajectories begin, and read it in one call without padding.

This module needs torchrl: ``pip install 'seqnorm[rl]'``.

Axes: B trajectories or environments, T steps, S pieces of trajectories, I = input_size,
H = hidden_size, L = num_layers, D = directions.
"""

from __future__ import annotations

from typing import Any, NoReturn, Union

import torch
from torch import Tensor

from seqnorm import nn as ours
from seqnorm.extra import explained
from seqnorm.nn.graphs import outside_of_graphs
from seqnorm.nn.recurrence.windows import refuse_window

with explained(__name__, "pip install 'seqnorm[rl]'"):
    import torchrl.modules as theirs
    from tensordict import TensorDictBase
    from tensordict.nn import dispatch

__all__ = ["GRUModule", "LSTMModule"]

Layer = Union[ours.LSTM, ours.GRU]


class _Normalised:
    """The computation of a module, for an LSTM and a GRU."""

    in_keys: list[Any]
    out_keys: list[Any]
    recurrent_mode: bool

    @property
    def _layer(self) -> Layer:
        raise NotImplementedError

    @dispatch  # type: ignore[untyped-decorator]  # of tensordict
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Read one step, or whole trajectories in recurrent mode, and write the entries out_keys.

        Args:
            tensordict: in recurrent mode, its last axis is time.

        Raises:
            ValueError: in recurrent mode, the tensordict has no axis; or is_init has another shape.
        """
        shape = tensordict.shape
        given = tensordict.select(*self.in_keys, strict=False)
        if not self.recurrent_mode:
            given = given.reshape(-1).unsqueeze(-1)
        elif not shape:
            raise ValueError(
                f"{type(self).__name__} in recurrent mode reads time along the last axis of a "
                "tensordict, and this one has no axis: write tensordict.unsqueeze(0)"
            )
        else:
            given = given.reshape(-1, shape[-1])
        begins = given["is_init"]
        if begins.numel() != given.numel():
            raise ValueError(
                "is_init must have one element for each step of each environment, "
                f"{tuple(given.shape)}, got {tuple(begins.shape)}"
            )
        begins = begins.reshape(given.shape).bool()
        x = given[self.in_keys[0]]
        stored = [given.get(key, None) for key in self.in_keys[1 : len(self.out_keys)]]
        missing = [part is None for part in stored]
        if any(missing) and not all(missing):
            raise ValueError(
                f"the tensordict has only a part of the state, {self.in_keys[1:]}: give all parts, "
                "or leave all of them out, and trajectories begin anew"
            )
        hx = None if any(missing) else tuple(stored)
        compute = _replay if self.recurrent_mode else _act
        results = compute(self._layer, x, hx, begins)
        for key, result in zip(self.out_keys, results):
            tensordict.set(key, result.reshape(*shape, *result.shape[2:]))
        return tensordict

    def make_python_based(self) -> NoReturn:
        """Refuse: a copy of the weights in a layer of torchrl would omit the norm."""
        raise RuntimeError(
            f"{type(self).__name__} of seqnorm has a layer of its own, whose norm no layer of "
            "torchrl computes. Without a norm, use torchrl.modules."
            f"{type(self).__name__} with the layer's to_torch()"
        )

    make_cudnn_based = make_python_based


def _joined(state: tuple[Tensor, ...]) -> Any:
    """Return the state as a layer takes it: h alone, or h and c."""
    return state if len(state) > 1 else state[0]


def _renewed(layer: Layer, states: tuple[Tensor, ...], anew: Tensor) -> tuple[Tensor, ...]:
    """Return the states (L * D, B, H) with the layer's initial ones where told, (B,)."""
    new = [torch.zeros_like(part) for part in states]
    if layer.learn_initial_state:
        new = [getattr(layer, f"{letter}_0")[:, None] for letter in layer.step.states]
    return tuple([torch.where(anew[:, None], own, old) for own, old in zip(new, states)])


def _act(
    layer: Layer, x: Tensor, hx: tuple[Tensor, ...] | None, begins: Tensor
) -> tuple[Tensor, ...]:
    """Return the output (B, 1, D * H) and the states (B, 1, L * D, H) of one step.

    Args:
        x: (B, 1, I).
        hx: (B, 1, L * D, H) each.
        begins: (B, 1), true where the state is the initial one.
    """
    given = None  # every sequence begins
    if hx is not None:
        states = tuple([part[:, 0].transpose(0, 1) for part in hx])
        given = _joined(_renewed(layer, states, begins[:, 0]))
    output, final = layer(x, given)
    parts = final if isinstance(final, tuple) else (final,)
    return (output, *(part.transpose(0, 1)[:, None] for part in parts))


@outside_of_graphs  # the number of pieces depends on the data
def _replay(
    layer: Layer, x: Tensor, hx: tuple[Tensor, ...] | None, begins: Tensor
) -> tuple[Tensor, ...]:
    """Return the outputs (B, T, D * H) of trajectories, and the states at their ends.

    As in torchrl, the states (B, T, L * D, H) are zero elsewhere, and a piece of a trajectory that
    begins inside the batch goes on from the state that is stored at its first step. There, zeros
    mean the initial state of the layer.

    Args:
        x: (B, T, I).
        hx: (B, T, L * D, H) each.
        begins: (B, T).
    """
    batch, steps = begins.shape
    cuts = begins.clone()
    cuts[:, 0] = True
    starts = cuts.flatten().nonzero()[:, 0]  # (S,)
    ends = torch.cat([starts[1:], starts.new_full((1,), batch * steps)]) - 1
    given = None
    if hx is not None:
        states = tuple([part.flatten(0, 1)[starts].transpose(0, 1) for part in hx])
        if layer.learn_initial_state:
            anew = begins.flatten()[starts]
            for part in states:
                anew = anew & (part == 0).all(-1).all(0)
            states = _renewed(layer, states, anew)
        given = _joined(states)
    bounds = torch.cat([starts, ends[-1:] + 1])
    output, final = layer(x.flatten(0, 1), given, cu_seqlens=bounds)
    parts = final if isinstance(final, tuple) else (final,)
    placed = []
    for part in parts:
        rows = part.new_zeros(batch * steps, *part.transpose(0, 1).shape[1:])
        placed.append(rows.index_copy(0, ends, part.transpose(0, 1)).unflatten(0, (batch, steps)))
    return (output.unflatten(0, (batch, steps)), *placed)


_KEYS = ("in_key", "in_keys", "out_key", "out_keys", "default_recurrent_mode")
_DEFAULTS = {"num_layers": 1, "bias": True, "batch_first": True}  # the others are zero or None


def _arguments(kind: type[Layer], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of torchrl's module, of the locals of a constructor.

    Raises:
        TypeError: the user's layer is of another class.
        ValueError: a layer is given with options, or sizes are missing; or the layer has another
            order of axes, or statistics over the batch.
    """
    name = kind.__name__
    key = name.lower()  # of the argument that takes a layer
    given = arguments[key]
    left_out = ("self", "__class__", key, *_KEYS)
    options = {name: value for name, value in arguments.items() if name not in left_out}
    if given is None:
        if options["input_size"] is None or options["hidden_size"] is None:
            raise ValueError(f"give input_size and hidden_size, or {key}=seqnorm.{name}(...)")
        given = kind(**options)
    elif changed := [
        name
        for name, value in options.items()
        if (value != _DEFAULTS[name] if name in _DEFAULTS else value)
    ]:
        raise ValueError(f"{key} has its own sizes and options: leave out {', '.join(changed)}")
    elif not isinstance(given, kind):
        raise TypeError(
            f"{key} must be a seqnorm.{name}, got {type(given).__name__}: write "
            f"seqnorm.{name}.from_torch(layer, norm=...), or use torchrl.modules.{name}Module"
        )
    if not given.batch_first:
        raise ValueError(f"the {name} must have batch_first=True, because tensordicts have")
    if given.over_batch:
        raise ValueError(
            "BatchNorm needs to know at which step a trajectory is, and a tensordict does not tell "
            'it: use norm="layer" or norm="rms"'
        )
    refuse_window(given.norm, "a policy acts by calls of one step", "leave window=None")
    return {key: given, **{name: arguments[name] for name in _KEYS}}


class LSTMModule(_Normalised, theirs.LSTMModule):  # type: ignore[misc]  # untyped
    """torchrl's ``LSTMModule`` with ``seqnorm.LSTM``.

    In sequential mode it reads one step, and starts from the initial state where ``is_init`` is
    true. In recurrent mode it reads whole trajectories, which begin where ``is_init`` is true, with
    the state that is stored there.

    Args:
        input_size, hidden_size, num_layers, bias, dropout, proj_size, bidirectional, norm, zoneout,
            recurrent_dropout, learn_initial_state, device: as in ``seqnorm.LSTM``. Statistics of
            the norm must not be over the batch.
        batch_first: true, because tensordicts have the time behind the batch.
        in_key, in_keys, out_key, out_keys, default_recurrent_mode: as in torchrl's module.
        lstm: a ``seqnorm.LSTM`` with ``batch_first=True``, instead of sizes and options.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        proj_size: int = 0,
        bidirectional: bool = False,
        *,
        norm: str | ours.NormScheme | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
        in_key: Any = None,
        in_keys: Any = None,
        out_key: Any = None,
        out_keys: Any = None,
        device: torch.device | str | None = None,
        lstm: ours.LSTM | None = None,
        default_recurrent_mode: bool | None = None,
    ) -> None:
        super().__init__(**_arguments(ours.LSTM, locals()))

    @property
    def _layer(self) -> ours.LSTM:
        layer: ours.LSTM = self.lstm
        return layer


class GRUModule(_Normalised, theirs.GRUModule):  # type: ignore[misc]  # untyped
    """torchrl's ``GRUModule`` with ``seqnorm.GRU``, as ``LSTMModule``.

    Args:
        input_size, hidden_size, num_layers, bias, dropout, bidirectional, norm, zoneout,
            recurrent_dropout, learn_initial_state, device: as in ``seqnorm.GRU``. Statistics of the
            norm must not be over the batch.
        batch_first: true, because tensordicts have the time behind the batch.
        in_key, in_keys, out_key, out_keys, default_recurrent_mode: as in torchrl's module.
        gru: a ``seqnorm.GRU`` with ``batch_first=True``, instead of sizes and options.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        norm: str | ours.NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
        in_key: Any = None,
        in_keys: Any = None,
        out_key: Any = None,
        out_keys: Any = None,
        device: torch.device | str | None = None,
        gru: ours.GRU | None = None,
        default_recurrent_mode: bool | None = None,
    ) -> None:
        super().__init__(**_arguments(ours.GRU, locals()))

    @property
    def _layer(self) -> ours.GRU:
        layer: ours.GRU = self.gru
        return layer
