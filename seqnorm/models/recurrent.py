"""The choice of a recurrent layer by the names of its cell and norm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from seqnorm.nn import preset
from seqnorm.nn.check import nearest
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.layers.forms import Layer

CELLS = {name.lower(): name for name in LAYERS}


def layer_maker(
    cell: str, norm: str | None, norm_options: dict[str, Any] | None, **defaults: Any
) -> Callable[..., Layer[Any]]:
    """Return a function that makes a batch_first layer from its other arguments.

    The ``defaults`` are options of the norm unless ``norm_options`` has others.

    Raises:
        ValueError: The cell or norm is unknown, or options are given without a norm.
        TypeError: A norm option is unknown.
    """
    if cell not in CELLS:
        raise ValueError(
            f"cell {cell!r} is unknown: write one of {', '.join(CELLS)}{nearest(cell, CELLS)}"
        )
    if norm is None and norm_options:
        raise ValueError(
            f"norm_options {norm_options} without a norm: choose a norm, such as layer, or leave "
            "them out"
        )
    options = defaults | (norm_options or {})
    scheme = None if norm is None else preset(norm, CELLS[cell], **options)
    return partial(LAYERS[CELLS[cell]], batch_first=True, norm=scheme)
