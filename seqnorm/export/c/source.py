"""The layers and cells that C can compute, and the reasons against others.

Axes: L layers, D directions, P = size of h.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...nn.layers.cell import RecurrentCell
from ...nn.layers.initial_states import own_states
from ...nn.layers.layer import RecurrentLayer
from ...nn.recurrence.direction import Direction
from ...nn.recurrence.site_norms import BatchSiteNorm
from ...nn.recurrence.step import Step
from ...nn.recurrence.windows import refuse_window
from ...nn.statistics.running_table import RunningTable
from .cells import CELLS

_STEPS = tuple(CELLS)


@dataclass
class Part:
    """One layer in one direction.

    Attributes:
        suffix: the ending of its names in C, such as "_l0_reverse".
        initial: the initial value of each part of the state.
    """

    suffix: str
    direction: Direction
    state_sizes: tuple[int, ...]
    initial: list[Tensor]

    @property
    def step(self) -> Step:
        return self.direction.step


@dataclass
class Source:
    """A layer or a cell as C computes it.

    Attributes:
        layers: the directions of each layer.
        steps: the number of steps with statistics, where ``beyond="error"`` refuses later ones.
    """

    words: str
    input_size: int
    layers: list[list[Part]]
    steps: int | None

    @property
    def bidirectional(self) -> bool:
        return len(self.layers[0]) > 1

    @property
    def output_size(self) -> int:
        return sum(part.state_sizes[0] for part in self.layers[-1])


def read(module: nn.Module) -> Source:
    """Return what C needs to know of a layer or a cell.

    Raises:
        TypeError: it is neither, its step is not one of the library, or it is not in float32.
        ValueError: C cannot compute it as it is.
    """
    if not isinstance(module, (RecurrentLayer, RecurrentCell)):
        inside = [name for name, part in module.named_modules() if isinstance(part, RecurrentLayer)]
        hint = f": give it {' or '.join(f'model.{name}' for name in inside)}" if inside else ""
        raise TypeError(
            f"to_c writes a recurrent layer or cell of seqnorm, got {type(module).__name__}{hint}"
        )
    _refuse(module)
    if isinstance(module, RecurrentLayer):
        names, sizes = module.suffixes, module.state_sizes
        initial = own_states(module, module.directions()[0].weight_ih, names)
        suffixes = [suffix for layer in names for suffix in layer]
        parts = [
            Part(suffix, direction, sizes, [state[k, 0] for state in initial])
            for k, (suffix, direction) in enumerate(zip(suffixes, module.directions()))
        ]
        width = len(names[0])
        layers = [parts[k : k + width] for k in range(0, len(parts), width)]
    else:
        direction = module.direction()
        sizes = (module.hidden_size,) * len(module.step.states)
        states = list(module.own_state(None, direction.weight_ih))
        layers = [[Part("_l0", direction, sizes, states)]]
    words = f"{type(module).__name__}({module.extra_repr()})"
    return Source(words, module.input_size, layers, _limit(module))


def _refuse(module: RecurrentLayer | RecurrentCell) -> None:
    """Raise TypeError or ValueError if C cannot compute a module, or not in its present mode."""
    name = type(module).__name__
    if type(module.step) not in _STEPS:
        known = ", ".join(step.name for step in _STEPS)
        raise TypeError(
            f"{name} has a step of its own, {type(module.step).__name__}, whose equations exist in "
            f"Python only: to_c knows those of {known}"
        )
    if type(module).forward not in (RecurrentLayer.forward, RecurrentCell.forward):
        raise TypeError(
            f"{name} has a forward of its own, which exists in Python only: give to_c the layer "
            "that it calls"
        )
    if module.quantised:
        raise TypeError(
            f"to_c writes float, and {name} has matrices of int8, which do not turn back into "
            "those before: call to_c before quantize_, or on a model that is not quantised"
        )
    refuse_window(
        module.norm, "the C library keeps the state of one step alone", "leave window=None"
    )
    if module.training:
        drawn = [
            option
            for option in ("dropout", "recurrent_dropout", "zoneout")
            if (value := getattr(module, option, 0.0)) and value != (0.0,) * len(module.step.states)
        ]
        if module.over_batch:
            drawn.append("a norm of the batch")
        if drawn:
            raise ValueError(
                f"{name} is in training mode, where {' and '.join(drawn)} would change results at "
                "random or by the batch: write layer.eval() before to_c"
            )
    if module.input_size == 0 or module.hidden_size == 0:
        raise ValueError(
            f"{name} has no units (input_size={module.input_size}, "
            f"hidden_size={module.hidden_size}), and C has no arrays of length 0"
        )
    for direction in module.directions():
        for tensor in direction.tensors:
            if tensor.dtype != torch.float32:
                raise TypeError(
                    f"to_c writes float, and {name} has weights of {tensor.dtype}: write "
                    "to_c(copy.deepcopy(layer).float(), path)"
                )
            if tensor.is_meta:
                raise ValueError(f"{name} has no values, it is on the device meta: load weights")


def _limit(module: RecurrentLayer | RecurrentCell) -> int | None:
    """Return the number of steps with statistics, or ``None`` where later steps have others'.

    Raises:
        ValueError: a norm with ``beyond="error"`` has no statistics at all.
    """
    found = []
    for direction in module.directions():
        for site, norm in direction.norms.items():
            if not isinstance(norm, BatchSiteNorm) or norm.table.beyond != "error":
                continue
            if not int(norm.table.count[0]):
                raise ValueError(
                    f'the norm at {site} has no statistics of step 0, and beyond="error" refuses '
                    'such steps: train the layer, or build it with beyond="last"'
                )
            if not norm.norm.over_time:
                found.append(steps_with_statistics(norm.table))
    return min(found, default=None)


def steps_with_statistics(table: RunningTable) -> int:
    """Return the number of steps after which a table has nothing new, at least 1."""
    seen = table.count > 0
    if table.beyond == "error":
        return max(int(seen.int().cumprod(0).sum()), 1)
    last = seen.nonzero()
    return int(last[-1]) + 1 if len(last) else 1
