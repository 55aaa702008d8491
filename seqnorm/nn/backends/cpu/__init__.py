"""Compiled loops for the CPU: LSTM and GRU with norms of a row, as fast as torch's plain layers.

What it does not take goes on to the next backend, with the reason.

Axes: B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...check import warn
from ...direction import Direction
from ...lengths import Packing
from ...loop import State
from ...scheme import Norm
from ...sites import FeatureNorm
from ..reference import input_term
from .library import CELLS, LIBRARY, WHY_NOT, describe
from .operators import Plan, Recurrence

_warned: list[str] = []


def status() -> tuple[bool, str]:
    """Whether it is there, and with what, or why not."""
    return LIBRARY is not None, WHY_NOT or describe()


def claims(direction: Direction, rows: Tensor, packing: Packing) -> str | None:
    """Cells, norms and calls that the kernels know."""
    reason = _call_reason(direction, rows, packing) or _norm_reason(direction)
    if reason is None and LIBRARY is None:
        if not _warned:
            _warned.append(WHY_NOT)
            warn(f"normalised layers are slow here, for backend 'cpu' is absent: {WHY_NOT}")
        return WHY_NOT
    return reason


def _call_reason(direction: Direction, rows: Tensor, packing: Packing) -> str | None:
    if rows.device.type != "cpu":
        return f"its kernels are for the CPU, and the input is on {rows.device}"
    if direction.cell.name not in CELLS:
        return f"it has no kernel for the {direction.cell.name}"
    if rows.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return "its kernels compute in float32 and float64 alone"
    if direction.weight_hr is not None:
        return "it has no kernel with a projection (proj_size)"
    if any(direction.zoneout):
        return "it has no kernel with zoneout"
    return None if packing.batch_sizes else "no rows"


def _norm_reason(direction: Direction) -> str | None:
    scheme = direction.scheme
    if scheme is None:
        return None
    if scheme.bias_hh in ("inside", "both") and scheme.sum is None:
        return "it has no kernel with a bias of W_hh h before its norm"
    if "candidate" in direction.cell.spans(scheme):
        return "it has no kernel with a norm of the GRU's candidate"
    gate_sets = set()
    for site, norm in _inside(direction).items():
        if norm.over_batch:
            return "it has no kernel for statistics of the batch inside the recurrence"
        if norm.eps_on == "std":
            return "it has no kernel with eps added to the standard deviation"
        sets = _sets(direction, site)
        if sets is None or len(sets) > 4 or (site == "cell" and len(sets) > 1):
            return f"it has no kernel for sets={norm.sets!r}"
        if site != "cell":
            gate_sets.add(sets)
    return "it has no kernel for different sets of x and h" if len(gate_sets) > 1 else None


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Packed inputs (N, I) and initial state (B, H), (B, H) to packed outputs and final state."""
    sites, inside = direction.sites, _inside(direction)
    h_site = "sum" if "sum" in inside else "hidden"
    norms = direction.start(packing.batch_sizes)
    weight_ih: Tensor | None = direction.weight_ih
    if "input" in sites and "input" not in inside:  # a norm of the batch, before the kernel
        rows, weight_ih = input_term(direction, norms, rows), None
    else:
        rows = norms.whole("frame", rows)
    of_x = "x" if len(state) == 1 else "h"  # the terms of an LSTM are only added
    biases = [
        (direction.bias_ih, "" if weight_ih is None else _place(direction, "bias_ih", of_x)),
        (direction.bias_hh, _place(direction, "bias_hh", "h")),
        (sites["input"].bias if "input" in inside else None, of_x),
        (sites[h_site].bias if h_site in inside else None, "h"),
    ]
    order = ("input", h_site, "cell")
    gate_sets = {_sets(direction, site) for site in inside if site != "cell"}
    gains = [sites[site].weight if site in inside else None for site in order]
    output, *final = Recurrence.apply(  # type: ignore[no-untyped-call]  # torch's own
        Plan(
            cell=direction.cell,
            scheme=direction.scheme,
            sizes=packing.batch_sizes,
            sets=gate_sets.pop() or () if gate_sets else (len(direction.cell.gates),),
            norms=tuple(inside[site].kind if site in inside else None for site in order),
            eps=tuple(inside[site].eps if site in inside else 1.0 for site in order),
            places=tuple(place if bias is not None else "" for bias, place in biases),
        ),
        rows,
        weight_ih,
        direction.weight_hh,
        state[0],
        state[1] if len(state) > 1 else None,
        *gains,
        sites["cell"].bias if "cell" in inside else None,
        *(bias if place else None for bias, place in biases),
    )
    output = norms.whole("output", output)
    norms.close()
    return output, tuple(final)


def _place(direction: Direction, name: str, term: str) -> str:
    """Where a bias vector of torch's names is added, for ``Plan.places``."""
    scheme = direction.scheme
    place = "outside" if scheme is None else getattr(scheme, name)
    return {"outside": term, "inside": "i", "both": "i" + term, None: ""}[place]


def _inside(direction: Direction) -> dict[str, Norm]:
    """The norms that the kernel computes; those of the batch at the input come before it."""
    scheme = direction.scheme
    if scheme is None:
        return {}
    found = {site: getattr(scheme, site) for site in ("input", "hidden", "sum", "cell")}
    return {
        site: norm
        for site, norm in found.items()
        if norm is not None and not (site == "input" and norm.over_batch)
    }


def _sets(direction: Direction, site: str) -> tuple[int, ...] | None:
    """The gate after the last of each set, or None if sets are not of whole gates."""
    norm = direction.sites[site]
    assert isinstance(norm, FeatureNorm)
    hidden = direction.weight_hh.shape[1]
    ends, end = [], 0
    for size in norm.sizes:
        end += size
        ends.append(end)
    return tuple(end // hidden for end in ends) if not any(end % hidden for end in ends) else None
