"""Checks of constructor arguments, with torch's error types and messages where it has them."""

from __future__ import annotations

import numbers


def check_sizes(input_size: int, hidden_size: int, num_layers: int = 1, proj_size: int = 0) -> None:
    """Raise TypeError or ValueError for sizes of which no layer can be built."""
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, size in sizes.items():
        check_positive(name, size)
    if not isinstance(proj_size, int) or isinstance(proj_size, bool):
        raise TypeError(f"proj_size should be of type int, got: {type(proj_size).__name__}")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


def check_positive(name: str, size: int) -> None:
    """Raise TypeError unless ``size`` is an int, ValueError unless it is at least 1."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
    if size <= 0:
        raise ValueError(f"{name} must be greater than zero, got {size}")


def check_probability(name: str, p: float) -> None:
    """Raise ValueError unless ``p`` is a number in [0, 1]."""
    if not isinstance(p, numbers.Real) or isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueError(
            f"{name} should be a number in range [0, 1] representing a probability, got {p!r}"
        )
