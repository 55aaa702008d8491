"""Tensors of other libraries, described as arrangements of the parameters of a layer.

A ``Part`` states how one tensor of an original is made of our parameters. It is read in both
directions: ``write`` makes the tensor, and ``read`` takes it apart again.

Axes: I = input size, H = hidden size, G gates, P units of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .parameters import Parameters


@dataclass(frozen=True)
class Part:
    """One tensor of an original.

    Args:
        of: names of our parameters, as "weight_ih", "norm_ih.weight" or "norm_ih.running_mean".
        gates: the gates whose rows it holds; "" for all, in the order of the layout.
        join: arrangement of several parameters: "rows" (one below the other), "columns" (side by
            side) or "stack" (along a new first axis).
        view: "transposed", or an arrangement by heads: "blocks" (heads, P, P) are the blocks on the
            diagonal of a matrix (H, H), and "heads_first" (heads, G * P, P) are the rows of a
            matrix (G * H, P), head by head.
        shift: numbers by gate that are added to ours; "" for units without gates.
    """

    of: tuple[str, ...]
    gates: str = ""
    join: str = "rows"
    view: str = ""
    shift: Mapping[str, float] = field(default_factory=dict)

    def pieces(self, own: Parameters, order: str) -> list[tuple[str, str]]:
        """Return the names of our parameters and their gates, in order; "" for no gates.

        Args:
            order: all gates in the order of the layout.
        """
        gates = self.gates or order
        return [(n, "".join(g for g in gates if g in own.spans[n])) for n in self.of]

    def write(self, own: Parameters, order: str) -> Tensor:
        """Return the tensor of the original."""
        pieces = []
        for name, gates in self.pieces(own, order):
            rows = [_moved(own.rows(name, gate), self.shift.get(gate)) for gate in gates or [""]]
            pieces.append(torch.cat(rows))
        if self.join == "stack":
            return torch.stack(pieces)
        found: Tensor = torch.cat(pieces, 1 if self.join == "columns" else 0)
        if self.view == "transposed":
            found = found.mT
        elif self.view == "blocks":
            size = len(found) // own.heads
            blocks = [block.split(size, 1)[k] for k, block in enumerate(found.split(size))]
            found = torch.stack(blocks)
        elif self.view == "heads_first":
            by_head = found.unflatten(0, (len(order), own.heads, -1)).transpose(0, 1)
            found = by_head.flatten(1, 2)
        return found

    def read(
        self, theirs: Tensor, own: Parameters, order: str
    ) -> Iterator[tuple[str, str, Tensor]]:
        """Yield name, gate and rows of our parameters from a tensor of the right shape."""
        if self.view == "transposed":
            theirs = theirs.mT
        elif self.view == "blocks":
            theirs = torch.block_diag(*theirs)
        elif self.view == "heads_first":
            theirs = theirs.unflatten(1, (len(order), -1)).transpose(0, 1).flatten(0, 2)
        pieces = self.pieces(own, order)
        sizes = [torch.Size(own.shape(name, gates)) for name, gates in pieces]
        if self.join == "stack":
            split = theirs.unbind()
        else:
            axis = 1 if self.join == "columns" else 0
            split = theirs.split([size[axis] for size in sizes], axis)
        for (name, gates), rows in zip(pieces, split):
            for gate, of_gate in zip(gates or [""], rows.chunk(max(len(gates), 1))):
                yield name, gate, _moved(of_gate, -self.shift.get(gate, 0.0))


def _moved(rows: Tensor, shift: float | None) -> Tensor:
    """Return the rows with a number added; without a number they keep every bit, even -0.0."""
    return rows + shift if shift else rows


def rows(*of: str, gates: str = "", shift: Mapping[str, float] | None = None) -> Part:
    """Return a part with our rows, one parameter below the other."""
    return Part(of, gates, shift=shift or {})


def transposed(*of: str, gates: str = "") -> Part:
    """Return a part whose columns are our rows; several matrices stand one below the other."""
    return Part(of, gates, "columns", "transposed")


def columns(*of: str) -> Part:
    """Return a part that has several of our matrices side by side."""
    return Part(of, join="columns")


def stacked(*of: str) -> Part:
    """Return a part with our parameters along a new first axis."""
    return Part(of, join="stack")


# The names and the layout of torch.nn.LSTM, GRU and RNN.
AS_TORCH = {
    name: rows(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
}


def affine(theirs: str, site: str, names: tuple[str, str] = ("weight", "bias")) -> dict[str, Part]:
    """Return the parts of gain and bias of a norm, as ``{"bn.weight": ..., "bn.bias": ...}``.

    Args:
        theirs: the beginning of the names of the original, with a separator.
        site: our norm, as "norm_ih".
        names: the ends of the names of gain and bias.
    """
    return {f"{theirs}{n}": rows(f"{site}.{own}") for n, own in zip(names, ("weight", "bias"))}


def running(theirs: str, site: str, end: str = "") -> dict[str, Part]:
    """Return the parts of running statistics; ``end`` may number the steps, as "_{step}"."""
    kinds = ("running_mean", "running_var")
    return {f"{theirs}{kind}{end}": rows(f"{site}.{kind}") for kind in kinds}
