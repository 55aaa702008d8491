"""Checks of the arguments of recurrent layers and cells, with errors that say what to write.

Axes: T steps, B sequences, I = input_size.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn

import torch.fx
from torch import Tensor, nn

from ..check import check_positive, check_probability, nearest
from ..recurrence.scheme import TABLE_FIELDS, Norm, NormScheme
from ..recurrence.step import STEPS, Step

_OF_NORMS = {field.name for kind in (Norm, NormScheme) for field in fields(kind)}


def explaining(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it explains an unknown argument.

    A constructor without ``norm``, or with arbitrary keywords, is returned unchanged.
    """
    parameters = inspect.signature(init).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if takes_all or "norm" not in parameters:
        return init

    @functools.wraps(init)
    def explained(self: nn.Module, *args: Any, **options: Any) -> None:
        for option in options:
            if option not in parameters:
                names = list(parameters)[1:]
                _refuse_option(type(self), option, dict(zip(names, args)) | options, names)
        init(self, *args, **options)

    return explained


def _refuse_option(
    cls: type[nn.Module], option: str, options: dict[str, Any], known: list[str]
) -> NoReturn:
    name, value, norm = cls.__name__, options[option], options.get("norm")
    if option == "proj_size" and "num_layers" in known:
        others = "" if hasattr(nn, name) else f", nor {name}"
        raise ValueError(
            f"proj_size argument is only supported for LSTM, not RNN or GRU{others}"  # torch's text
        )
    hint = nearest(option, known)
    if isinstance(value, Norm):
        hint = f": a scheme says where norms stand, norm=seqnorm.NormScheme({option}=...)"
    elif option in _OF_NORMS and not hint:
        kind = norm if isinstance(norm, str) else "batch" if option in TABLE_FIELDS else "layer"
        step = options.get("step")
        names = [step.name] if isinstance(step, Step) else []
        names += [base.__name__.removesuffix("Cell") for base in cls.__mro__]  # of a subclass too
        cell = next((base for base in names if base in STEPS), None)
        scheme = f'seqnorm.preset("{kind}", "{cell}", {option}={value!r})'
        if isinstance(norm, NormScheme) or cell is None:
            scheme = f"scheme.replace({option}={value!r})"
        hint = f": it is an option of the norm, write norm={scheme}"
    elif "norm" in option.lower() and not hint:
        hint = ': the argument is norm, as norm="layer"'
    raise TypeError(f"{name}.__init__() got an unexpected keyword argument {option!r}{hint}")


def refuse_input(name: str, value: Any) -> NoReturn:
    """Raise TypeError for an input that is neither a tensor nor a ``PackedSequence``."""
    got, cell = type(value).__name__, name.endswith("Cell")
    hint = ""
    if isinstance(value, torch.fx.Proxy):  # first, because a proxy has every attribute
        hint = ": make torch.fx take this layer as a leaf, see torch.fx.Tracer.is_leaf_module"
    elif isinstance(value, (list, tuple)) and value and all(isinstance(x, Tensor) for x in value):
        got = f"a {got} of {len(value)} tensors"
        hint = ": torch.stack makes one tensor of them"
        if not cell:
            hint = (
                ": torch.nn.utils.rnn.pad_sequence makes a batch (T, B, I) of sequences (T, I), "
                "for layer(batch, lengths=[len(each) for each in sequences])"
            )
        if not cell and len(value) == 2 and _are_integers(value[1]):
            hint = ": write layer(padded, lengths=lengths)"
    elif hasattr(value, "__array__"):
        hint = ": write torch.as_tensor(numpy.asarray(input))"
    kinds = "a Tensor" if cell else "a Tensor or a PackedSequence"
    raise TypeError(f"{name}: input must be {kinds}, got {got}{hint}")


def check_states(name: str, letters: str, hx: Any) -> None:
    """Raise TypeError unless ``hx`` is a tuple or list of tensors, see ``refuse_states``."""
    if not (isinstance(hx, (tuple, list)) and all(isinstance(part, Tensor) for part in hx)):
        refuse_states(name, letters, hx)


def refuse_states(name: str, letters: str, hx: Any) -> NoReturn:
    """Raise TypeError for an ``hx`` that is not a state.

    Args:
        letters: one for each part of the state.
        hx: the user's argument, within a tuple if the state has one part.
    """
    one, cell = len(letters) == 1, name.endswith("Cell")
    hx = hx[0] if one else hx
    wanted = "one Tensor h" if one else f"a tuple ({', '.join(letters)})"
    got, hint = type(hx).__name__, ""
    if isinstance(hx, Tensor):
        got = f"one Tensor {tuple(hx.shape)} of {hx.dtype}"
    elif type(hx) in (tuple, list):  # a PackedSequence is a tuple too
        got = f"a {got} of {', '.join(sorted({type(part).__name__ for part in hx})) or 'nothing'}"
    if cell and hasattr(hx, "__index__") and not isinstance(hx, Tensor):
        hint = ": the number of a step is cell(input, hx, first_step=...)"
    elif _are_integers(hx):
        hint = ": lengths are the third argument, write layer(input, lengths=...)"
    elif one and type(hx) in (tuple, list) and hx and isinstance(hx[0], Tensor):
        hint = ": there is no cell state, give h alone"
    elif hasattr(hx, "__array__") and not isinstance(hx, Tensor):
        hint = ": write torch.as_tensor(numpy.asarray(hx))"
    raise TypeError(f"{name}: hx must be {wanted}, got {got}{hint}")


def _are_integers(value: Any) -> bool:
    """Return whether the user may have meant the value as lengths."""
    if isinstance(value, (list, tuple)):
        scalars = [hasattr(each, "__index__") and not getattr(each, "ndim", 0) for each in value]
        return bool(scalars) and all(scalars)
    if isinstance(value, Tensor):
        return value.dim() == 1 and not value.is_floating_point()
    of_array = getattr(getattr(value, "dtype", None), "kind", "")  # numpy's and pandas'
    return getattr(value, "ndim", 0) == 1 and of_array in ("i", "u")


def check_step(step: Step) -> Step:
    """Return the step, or raise TypeError if it is not an instance of ``Step``."""
    if isinstance(step, Step) and hasattr(step, "zoned"):
        return step
    if isinstance(step, Step):
        raise TypeError(
            f'{type(step).__name__} has no gates: write gates = "fn", say, in its class'
        )
    if isinstance(step, type) and issubclass(step, Step):
        raise TypeError(
            f"the first argument must be an instance of a step: write {step.__name__}()"
        )
    raise TypeError(f"the first argument must be a seqnorm.Step, got {type(step).__name__}")


def check_heads(name: str, heads: int, hidden_size: int) -> int:
    """Return the number of heads, which has to divide the units.

    Args:
        name: the name of the argument.

    Raises:
        TypeError, ValueError: a number is no positive integer, or the units cannot be divided.
    """
    heads = check_positive(name, heads)
    if heads > 1 and check_positive("hidden_size", hidden_size) % heads:
        raise ValueError(f"{name}={heads} must divide hidden_size={hidden_size}")
    return heads


def check_zoneout(step: Step, zoneout: float | tuple[float, ...]) -> tuple[float, ...]:
    """Return the zoneout probability of each part of the state.

    Raises:
        ValueError: a probability is out of range, or their number is not that of the step's parts.
    """
    if not isinstance(zoneout, (tuple, list)):
        given = [zoneout] * len(step.zoned)
    elif len(zoneout) != 1 == len(step.zoned):
        raise ValueError(
            "zoneout is one probability, because this step holds back one part of the state, not "
            f"{zoneout!r}: a pair is for an LSTM's (h, c)"
        )
    elif len(zoneout) != len(step.zoned):
        parts = ", ".join(step.zoned)
        raise ValueError(f"zoneout is one probability or a tuple for ({parts}), got {zoneout!r}")
    else:
        given = list(zoneout)
    for probability in given:
        check_probability("zoneout", probability)
    by_part = dict(zip(step.zoned, given))
    return tuple([by_part.get(part, 0.0) for part in step.states])
