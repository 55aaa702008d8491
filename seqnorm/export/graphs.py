"""Layers and cells as modules whose inputs and outputs have names, one tensor each.

Axes: T steps, B sequences, I = input_size, H = hidden_size, P = size of h (H, or proj_size),
L = num_layers, D = directions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import torch
from torch import Tensor, nn

from ..nn.layers.cell import RecurrentCell
from ..nn.layers.exported import check_exportable
from ..nn.layers.layer import RecurrentLayer
from ..nn.recurrence.int8 import dtype_of

# Sizes of the example with which a graph is traced. They differ, so that no two axes are confused.
_EXAMPLE = {"T": 5, "B": 3}


class Argument(NamedTuple):
    """An input of a graph: its axes, where "T" and "B" have any size, and its dtype."""

    shape: tuple[int | str, ...]
    dtype: torch.dtype

    def axes(self) -> dict[int, str]:
        """Return the names of the axes of any size, by their positions."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def example(self, device: torch.device | None = None) -> Tensor:
        sizes = [_EXAMPLE[size] if isinstance(size, str) else size for size in self.shape]
        return torch.ones(sizes, dtype=self.dtype, device=device)


class NamedGraph(nn.Module):
    """A layer or cell that takes one tensor for each name in ``arguments``, in their order.

    Args:
        module: the layer or cell.
        lengths: true for an input ``lengths`` (B,).
        states: true for the initial state as inputs and the final state as outputs.
        resets: true for an input ``resets``.
        step: true for a layer's single step.

    Attributes:
        arguments: the inputs by name.
        outputs: the names of the outputs.
    """

    def __init__(
        self, module: Layer, lengths: bool, states: bool, resets: bool, step: bool
    ) -> None:
        super().__init__()
        check_exportable(module)
        self.training = False  # the exporter asks, and any module here computes as in inference
        self.module = module
        self.step = step
        self.arguments: dict[str, Argument] = {}
        self.outputs = ["output"]
        letters = module.step.states
        is_cell = isinstance(module, RecurrentCell)
        rows: tuple[int | str, ...] = ("B",)
        of_state: tuple[int | str, ...] = ("B",)
        both = False
        if isinstance(module, RecurrentCell):
            dtype, sizes = dtype_of(module, "weight_ih"), (module.hidden_size,) * len(letters)
            self.outputs = []
        else:
            both, sizes = module.bidirectional, module.state_sizes
            dtype = dtype_of(module, "weight_ih_l0")
            if not step:
                rows = ("B", "T") if module.batch_first else ("T", "B")
            of_state = (sum(map(len, module.suffixes)), "B")
        if both and step:
            raise ValueError(
                "a bidirectional layer reads the whole sequence, so it has no graph of one step: "
                "leave step=False"
            )
        self.arguments["input"] = Argument((*rows, module.input_size), dtype)
        if lengths and not (step or is_cell):
            self.arguments["lengths"] = Argument(("B",), torch.int64)
        if resets:
            self.arguments["resets"] = Argument(rows, torch.bool)
        if not states and not is_cell:
            return
        for letter, size in zip(letters, sizes):
            self.arguments[f"{letter}_0"] = Argument((*of_state, size), dtype)
        self.outputs += [f"{letter}_n" for letter in letters]
        if module.counts_steps and not both:
            shape: tuple[int | str, ...] = ("B",) if resets else ()
            self.arguments["first_step"] = Argument(shape, torch.int64)

    def forward(self, *tensors: Tensor) -> Any:
        given = dict(zip(self.arguments, tensors))
        x, resets = given["input"], given.get("resets")
        state: Any = tuple(given[name] for name in given if name.endswith("_0"))
        if len(state) < 2:
            state = state[0] if state else None
        if isinstance(self.module, RecurrentCell):
            return self.module(x, state, first_step=given.get("first_step"), resets=resets)
        time = 1 if self.module.batch_first else 0
        if self.step:
            x = x.unsqueeze(time)
            resets = None if resets is None else resets.unsqueeze(time)
        first: Any = given.get("first_step", 0)
        if resets is not None and state is not None and "first_step" not in given:
            first = torch.zeros(x.shape[1 - time], dtype=torch.int64, device=x.device)
        lengths = given.get("lengths")
        output, final = self.module(x, state, lengths, first_step=first, resets=resets)
        output = output.squeeze(time) if self.step else output
        if len(self.outputs) == 1:
            return output
        return (output, *(final if isinstance(final, tuple) else (final,)))


Layer = Union[RecurrentLayer, RecurrentCell]
