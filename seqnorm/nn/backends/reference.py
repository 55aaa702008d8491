"""The definition: one step at a time in plain PyTorch, gradients of every order by autograd.

Axes: B sequences, N packed rows, n rows alive at a step, I inputs, H = hidden_size, P = size of h.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..direction import Direction
from ..lengths import Packing
from ..loop import State, scan
from ..sites import SiteRun


def claims(direction: Direction, rows: Tensor, packing: Packing) -> str | None:
    """Takes every call."""
    return None


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Packed inputs (N, I) and initial state (B, P), (B, H) to packed outputs and final state."""
    norms = direction.start(packing.batch_sizes)
    x = _product(rows, direction.weight_ih, direction.bias_ih, _place(direction, "bias_ih"))
    if direction.hoisted:  # all rows at once
        x = _outside(norms("input", x, 0), direction, "bias_ih")

    def step(x: Tensor, state: State, t: int) -> State:
        if not direction.hoisted:
            x = _outside(norms("input", x, t), direction, "bias_ih")
        return advance(direction, norms, x, state, t)

    outputs, final = scan(step, x, packing.batch_sizes, state)
    norms.close()
    return outputs, final


def single(direction: Direction, x: Tensor, state: State, t: int) -> State:
    """One step of a cell, number ``t`` of its sequence: x (B, I), state (B, P), (B, H)."""
    norms = direction.start([len(x)], first=t)
    x = _product(x, direction.weight_ih, direction.bias_ih, _place(direction, "bias_ih"))
    x = _outside(norms("input", x, 0 if direction.hoisted else t), direction, "bias_ih")
    state = advance(direction, norms, x, state, t)
    norms.close()
    return state


def advance(direction: Direction, norms: SiteRun, x: Tensor, state: State, t: int) -> State:
    """The state after step t, from the finished input term x (n, G * H)."""
    h = _product(state[0], direction.weight_hh, direction.bias_hh, _place(direction, "bias_hh"))
    h = _outside(norms("hidden", h, t), direction, "bias_hh")
    new = direction.cell.step(x, h, state, lambda site, z: norms(site, z, t), direction.scheme)
    if direction.weight_hr is not None:
        new = (F.linear(new[0], direction.weight_hr), *new[1:])
    kept = zip(new, state, direction.zoneout)
    # Under autocast products are half precision; the state keeps its own.
    return tuple(
        _zoneout(after, before, p, direction.training).to(before.dtype) for after, before, p in kept
    )


def _place(direction: Direction, name: str) -> str | None:
    if direction.scheme is None:
        return "outside"
    place: str | None = getattr(direction.scheme, name)
    return place


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, place: str | None) -> Tensor:
    return F.linear(x, weight, bias if place in ("inside", "both") else None)


def _outside(x: Tensor, direction: Direction, name: str) -> Tensor:
    bias: Tensor | None = getattr(direction, name)
    if bias is None or _place(direction, name) not in ("outside", "both"):
        return x
    return x + bias


def _zoneout(after: Tensor, before: Tensor, p: float, training: bool) -> Tensor:
    """Each unit keeps its value of the step before with probability p (Krueger et al. 2017, eq. 2);
    in inference the expectation of that."""
    if p == 0.0:
        return after
    if not training:
        return p * before + (1.0 - p) * after
    keep = torch.rand(after.shape, device=after.device) < p
    return torch.where(keep, before, after)
