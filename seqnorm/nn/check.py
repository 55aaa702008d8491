"""Checks of arguments, with PyTorch's error types and messages where PyTorch has them."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import operator
import sys
import warnings
from collections.abc import Container, Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

BEYOND = ("last", "error")


def as_integer(name: str, value: Any) -> int:
    """Return ``value``, an integer of Python or numpy or a 0-D integer tensor, as an int.

    Raises:
        TypeError: ``value`` is anything else, such as a bool.
    """
    if type(value) is int:
        return value
    of_array = getattr(value, "ndim", 0) > 0 or getattr(value, "dtype", None) is torch.bool
    if isinstance(value, bool) or of_array or not hasattr(value, "__index__"):
        raise TypeError(f"{name} should be of type int, got: {type(value).__name__}")
    try:
        return operator.index(value)
    except TypeError:  # a tensor of another dtype
        raise TypeError(f"{name} should be of type int, got: {value!r}") from None


def check_sizes(
    input_size: int, hidden_size: int, num_layers: int = 1, proj_size: int = 0
) -> tuple[int, int, int, int]:
    """Return the sizes of a layer as ints; raise TypeError or ValueError for a bad one."""
    inputs = check_positive("input_size", input_size)
    hidden = check_positive("hidden_size", hidden_size)
    layers = check_positive("num_layers", num_layers)
    proj_size = as_integer("proj_size", proj_size)
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden:
        raise ValueError("proj_size has to be smaller than hidden_size")
    return inputs, hidden, layers, proj_size


def check_positive(name: str, size: int) -> int:
    """Return the size as an int; raise TypeError if not an integer, ValueError if below 1."""
    size = as_integer(name, size)
    if size <= 0:
        raise ValueError(f"{name} must be greater than zero, got {size}")
    return size


def check_not_negative(name: str, size: int) -> int:
    """Return a size that may be 0 as an int; raise as ``check_positive`` does."""
    size = as_integer(name, size)
    if size < 0:
        raise ValueError(f"{name} must not be negative, got {size}")
    return size


def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless ``p`` is a number in [0, 1]."""
    if not isinstance(p, numbers.Real) or isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueError(
            f"{name} should be a number in range [0, 1] representing a probability, got {p!r}"
        )


def check_table(
    max_steps: int, momentum: float | None, min_count: int, beyond: str
) -> tuple[int, int]:
    """Return ``max_steps`` and ``min_count`` as ints; raise if an option is out of range."""
    max_steps = check_positive("max_steps", max_steps)
    if momentum is not None:
        check_number("momentum", momentum)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1] or be None, got {momentum}")
    min_count = check_positive("min_count", min_count)
    if min_count < 2:
        raise ValueError(f"min_count must be at least 2, got {min_count}: one row has variance 0")
    choose("beyond", beyond, BEYOND)
    return max_steps, min_count


def check_limits(r_max: float, d_max: float) -> None:
    """Raise unless these are limits of Batch Renormalization, r_max >= 1 and d_max >= 0."""
    check_number("r_max", r_max)
    check_number("d_max", d_max)
    if r_max < 1:
        raise ValueError(f"r_max must be at least 1 (1 leaves the batch's scale), got {r_max}")
    if d_max < 0:
        raise ValueError(f"d_max must be at least 0 (0 leaves the batch's mean), got {d_max}")


def check_renormalization(r_max: float | None, d_max: float | None) -> bool:
    """Return whether a norm has Batch Renormalization; raise if its limits are not both given."""
    if r_max is None and d_max is None:
        return False
    if r_max is None or d_max is None:
        missing = "r_max=3.0" if r_max is None else "d_max=5.0"
        raise ValueError(
            f"Batch Renormalization has both limits, r_max and d_max: add {missing}, say, or leave "
            "both out for plain BatchNorm"
        )
    check_limits(r_max, d_max)
    return True


def check_flag(name: str, flag: object) -> bool:
    """Return the flag, a bool of Python or numpy, as a bool; raise TypeError otherwise."""
    kind = type(flag)
    if kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")):
        return bool(flag)
    raise TypeError(f"{name} should be of type bool, got: {kind.__name__}")


def check_floating(name: str, x: Tensor) -> None:
    """Raise TypeError unless x holds floating-point numbers."""
    if not x.is_floating_point():
        raise TypeError(f"{name} takes floating-point numbers, got {x.dtype}")


def check_untracked(track_running_stats: bool) -> None:
    """Raise ValueError if ``track_running_stats`` of an InstanceNorm is true."""
    if track_running_stats:
        raise ValueError(
            "InstanceNorm has no running statistics: its set S lies within one example, so "
            "inference has the same statistics as training, the example's own; leave "
            "track_running_stats=False, or take BatchNorm, whose S contains the batch"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message, `` (did you mean 'x'?)`` or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def choose(what: str, value: object, known: Iterable[str]) -> None:
    """Raise ValueError unless the value is one of the known words."""
    known = tuple(known)
    if value not in known:
        listed = ", ".join(repr(word) for word in known)
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{what} must be one of {listed}, got {value!r}{hint}")


def check_eps(eps: float) -> None:
    """Raise TypeError or ValueError unless eps > 0, in float32 too."""
    if isinstance(eps, numbers.Real) and not eps >= 1.2e-38:  # float32's smallest normal number
        raise ValueError(
            f"eps must be > 0, got {eps}, in float32 too: a set of equal elements has variance 0 "
            "(every set does on a zero initial state), and 0 / 0 is NaN; write eps=1e-5"
        )
    check_number("eps", eps)


def check_part(part: float | None) -> None:
    """Raise TypeError or ValueError unless ``part`` of an RMSNorm is None or lies in (0, 1]."""
    if part is not None:
        check_number("part", part)
        if not 0 < part <= 1:
            raise ValueError(f"part must lie in (0, 1] or be None, got {part}: write part=0.0625")


def check_number(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a number, ValueError unless it is finite."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} should be a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def check_first_step(first_step: int, bidirectional: bool) -> int:
    """Return as an int the time step at which a call begins; raise if it may not begin there."""
    first_step = as_integer("first_step", first_step)
    if first_step < 0:
        raise ValueError(
            f"first_step counts the steps read before and is at least 0, got {first_step}"
        )
    if first_step > 0 and bidirectional:
        raise ValueError(
            "first_step is for a layer that reads forwards, and this one reads from both ends: "
            "pass whole sequences, in bounded memory after seqnorm.compute_in_chunks(layer, steps)"
        )
    return first_step


def warn(message: str) -> None:
    """Warn at the user's line: the first outside seqnorm, torch's modules and quantisation."""
    level, frame = 2, sys._getframe(1)
    ours = ("seqnorm.nn.", "torch.nn.modules.module", "torch.ao.quantization", "typing_extensions")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(ours):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def refuse_scripting(module: object) -> NoReturn:
    """Refuse ``torch.jit.script``, which calls a module's ``__prepare_scriptable__``."""
    raise NotImplementedError(
        f"torch.jit.script cannot take seqnorm.{type(module).__name__}: PyTorch has deprecated "
        "TorchScript; use torch.compile or torch.export instead"
    )


def have_values(tensors: Sequence[Any]) -> bool:
    """Return whether the tensors hold readable values: they are neither traced nor transformed."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack():
        return False
    if any(tensor.is_cuda for tensor in tensors) and torch.cuda.is_current_stream_capturing():
        return False  # a CUDA graph cannot wait for values
    return all(type(tensor) is Tensor and not tensor.is_meta for tensor in tensors)


def base_of(module: object, known: Container[type]) -> type | None:
    """Return the known class whose ``forward`` the module runs, its own or a base, or None."""
    cls: Any = next((cls for cls in type(module).__mro__ if cls in known), None)
    same = cls is not None and getattr(type(module), "forward", None) is cls.forward
    return cls if same else None


def changed_options(module: object, names: Iterable[str]) -> list[str]:
    """Return the constructor arguments that differ from their defaults, as ``bias=False``."""
    parameters = inspect.signature(type(module)).parameters
    return [
        f"{name}={getattr(module, name)}"
        for name in names
        if name in parameters and getattr(module, name) != parameters[name].default
    ]
