"""Weights as the user gives them, brought into one dictionary of names and tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Begins the names of one direction's weights that were given apart from the others.
NUMBERED = "[{index}] "


class Given:
    """Tensors by name.

    Attributes:
        arrays: the tensors as they came, by name.
        numbered: true if the weights of the directions were given one by one, so that each name
            begins with the number of its direction.
        unnamed: true if they came as a list without names.
    """

    def __init__(self, tensors: Any, prefix: str, clean: Callable[[str], str]) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be the beginning of the names, got {prefix!r}")
        self.unnamed = False
        self.numbered = False
        if isinstance(tensors, Mapping):
            self.arrays = _named(tensors, prefix, clean)
            return
        if not isinstance(tensors, (list, tuple)):
            raise TypeError(
                "tensors must be a mapping of names to arrays, as state_dict() gives it, or a list "
                f"of arrays or of such mappings, got {type(tensors).__name__}"
            )
        self.numbered = bool(tensors) and all(isinstance(one, Mapping) for one in tensors)
        if self.numbered:
            self.arrays = {}
            for index, one in enumerate(tensors):
                for name, array in _named(one, prefix, clean).items():
                    self.arrays[NUMBERED.format(index=index) + name] = array
            return
        if any(isinstance(one, Mapping) for one in tensors):
            raise TypeError("tensors must be a list of mappings or a list of arrays, not of both")
        if prefix:
            raise ValueError(f"prefix={prefix!r} belongs to names, and a list of arrays has none")
        self.unnamed = True
        self.arrays = {str(number): array for number, array in enumerate(_flat(tensors))}

    def named(self, names: Sequence[str]) -> None:
        """Give names to a list of arrays; arrays beyond the names keep their numbers."""
        for name, (number, array) in zip(names, list(self.arrays.items())):
            del self.arrays[number]
            self.arrays[name] = array
        self.unnamed = False


def as_tensor(array: Any) -> Tensor | None:
    """Return an array of floating-point numbers as a tensor, or None for anything else."""
    if isinstance(array, Tensor):
        found = array.detach()
    else:
        try:
            value = array.__array__() if hasattr(array, "__array__") else array
            found = torch.tensor(value)  # a copy, because an array may be read-only
        except (TypeError, ValueError, RuntimeError):
            return None
    return found if found.is_floating_point() else None


def _named(tensors: Mapping[Any, Any], prefix: str, clean: Callable[[str], str]) -> dict[str, Any]:
    """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
    found: dict[str, Any] = {}
    names = []
    for name, value in _leaves(tensors, ""):
        names.append(name)
        short = clean(name[len(prefix) :])
        if name.startswith(prefix):
            if short in found:
                raise ValueError(f"two tensors have the name {short!r}: {name!r} is one of them")
            found[short] = value
    if prefix and not found:
        some = ", ".join(names[:3])
        raise ValueError(f"no name begins with prefix={prefix!r}; there are {some}, ...")
    return found


def _leaves(tensors: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested mappings, with their names joined by "/"."""
    for name, value in tensors.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value


def _flat(tensors: Sequence[Any]) -> Iterator[Any]:
    for one in tensors:
        if isinstance(one, (list, tuple)):
            yield from _flat(one)
        else:
            yield one
