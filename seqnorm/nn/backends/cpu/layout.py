"""What the kernels make of a scheme: which norms they compute themselves, over which sets.

Worked out once for a cell and scheme, for every call asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...cell import Cell
from ...scheme import Norm, NormScheme


@dataclass(frozen=True)
class Layout:
    """One cell with one scheme, for kernels, which know sets of whole gates alone.

    Attributes:
        reason: why they cannot compute it, or None.
        sites: the norms of x, of h (or of their sum) and of c, by the names of their sites; "" for
            one that is not there, or that stands before the kernel.
        kinds, eps: of the same.
        sets: the gate after the last of each set of the norms of x and h.
        hoisted: whether a norm of the input is computed before the kernel, as those of the batch.
        places: where bias_ih, bias_hh, and the biases of the norms of x and h are added: letters
            of "i" (to x, before its norm), "x" and "h" (to the normalised terms).
    """

    reason: str | None
    sites: tuple[str, str, str]
    kinds: tuple[str | None, ...]
    eps: tuple[float, ...]
    sets: tuple[int, ...]
    hoisted: bool
    places: tuple[str, str, str, str]


_known: dict[tuple[str, NormScheme | None, int], Layout] = {}


def layout(cell: Cell, scheme: NormScheme | None, hidden_size: int) -> Layout:
    """The layout of a cell with this scheme."""
    if torch.compiler.is_compiling():
        return _layout(cell, scheme, hidden_size)  # a table that grows would be compiled anew for
    key = (cell.name, scheme, hidden_size)
    if key not in _known:
        _known[key] = _layout(cell, scheme, hidden_size)
    return _known[key]


def _layout(cell: Cell, scheme: NormScheme | None, hidden_size: int) -> Layout:
    norms = {} if scheme is None else scheme.norms
    hoisted = "input" in norms and norms["input"].over_batch
    h_site = "sum" if "sum" in norms else "hidden"
    wanted = ("" if hoisted else "input", h_site, "cell")
    sites = tuple(site if site in norms else "" for site in wanted)
    inside = {site: norms[site] for site in sites if site}
    spans = {} if scheme is None else cell.spans(scheme)
    ends = {
        site: _ends(cell, norm, spans.get(site, ""), hidden_size) for site, norm in inside.items()
    }
    of_gates = {found for site, found in ends.items() if site != "cell"}
    of_x = "x" if len(cell.states) == 1 else "h"  # the terms of an LSTM are only added
    return Layout(
        reason=_reason(scheme, inside, spans, ends, of_gates),
        sites=sites,  # type: ignore[arg-type]  # three, as wanted
        kinds=tuple(inside[site].kind if site else None for site in sites),
        eps=tuple(inside[site].eps if site else 1.0 for site in sites),
        sets=(of_gates.pop() or ()) if of_gates else (len(cell.gates),),
        hoisted=hoisted,
        places=(
            "" if hoisted else _place(scheme, "bias_ih", of_x),
            _place(scheme, "bias_hh", "h"),
            of_x,
            "h",
        ),
    )


def _ends(cell: Cell, norm: Norm, span: str, hidden_size: int) -> tuple[int, ...] | None:
    """The gate after the last of each set, or None if sets are not of whole gates."""
    found, end = [], 0
    for size in norm.sizes(cell.gates, span, hidden_size, cell.heads):
        end += size
        found.append(end)
    if any(end % hidden_size for end in found):
        return None
    return tuple(end // hidden_size for end in found)


def _place(scheme: NormScheme | None, name: str, term: str) -> str:
    places = {"outside": term, "inside": "i", "both": "i" + term, None: ""}
    return places[NormScheme.place_of(scheme, name)]


def _reason(
    scheme: NormScheme | None,
    inside: dict[str, Norm],
    spans: dict[str, str],
    ends: dict[str, tuple[int, ...] | None],
    of_gates: set[tuple[int, ...] | None],
) -> str | None:
    if scheme is not None and scheme.bias_hh in ("inside", "both") and scheme.sum is None:
        return "it has no kernel with a bias of W_hh h before its norm"
    if "candidate" in spans:
        return "it has no kernel with a norm of the GRU's candidate"
    for site, norm in inside.items():
        if norm.over_batch:
            return "it has no kernel for statistics of the batch inside the recurrence"
        if norm.eps_on == "std":
            return "it has no kernel with eps added to the standard deviation"
        if ends[site] is None:
            return f"it has no kernel for sets={norm.sets!r}"
    return "it has no kernel for different sets of x and h" if len(of_gates) > 1 else None
