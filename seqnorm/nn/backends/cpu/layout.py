"""What the kernels make of a scheme: which norms they compute themselves, over which sets.

Worked out once for a cell and scheme, for every call asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Step
from .library import CELLS, KINDS, Arguments


@dataclass(frozen=True)
class Layout:
    """One cell with one scheme, for kernels, which know sets of whole gates alone.

    Attributes:
        cell: its name, with ``gates`` gates of ``hidden_size`` units.
        reason: why they cannot compute it, or None.
        sites: the norms of x, of h (or of their sum) and of c, by the names of their sites; "" for
            one that is not there, or that stands before the kernel.
        kinds, eps: of the same.
        sets: the gate after the last of each set of the norms of x and h.
        batch: whether the norms that it computes itself are of the batch.
        hoisted: whether a norm of the input is computed before the kernel, as those over time.
        sum: whether the norm of h is one of x + h.
        joined: whether x + W_hh h is all that counts: an LSTM whose terms are not normalised apart.
        places: where bias_ih, bias_hh, and the biases of the norms of x and h are added: letters
            of "i" (to x, before its norm), "x" and "h" (to the normalised terms).
        swapped: whether an LSTM carries its normalised c on, or a GRU's z takes the candidate.
    """

    cell: str
    hidden_size: int
    gates: int
    reason: str | None
    sites: tuple[str, str, str]
    kinds: tuple[str | None, ...]
    eps: tuple[float, ...]
    sets: tuple[int, ...]
    batch: bool
    hoisted: bool
    sum: bool
    joined: bool
    swapped: bool
    places: tuple[str, str, str, str]

    @cached_property
    def arguments(self) -> bytes:
        """``Arguments`` with what does not depend on the tensors of a call."""
        return bytes(
            Arguments(
                cell=CELLS[self.cell],
                H=self.hidden_size,
                G=self.gates,
                sets=len(self.sets),
                set_end=self.sets + (0,) * (4 - len(self.sets)),
                sum=self.joined,
                swapped=self.swapped,
                **{f"norm_{term}": KINDS[kind] for term, kind in zip("xhc", self.kinds)},
                **{f"eps_{term}": eps for term, eps in zip("xhc", self.eps)},
            )
        )


# With the scheme that they are for: to compare every field of it in every call costs too much.
_known: dict[tuple[str, int, int], tuple[NormScheme | None, Layout]] = {}


def layout(cell: Step, scheme: NormScheme | None, hidden_size: int) -> Layout:
    """The layout of a cell with this scheme."""
    if torch.compiler.is_compiling():
        return _layout(cell, scheme, hidden_size)  # a table that grows would be compiled anew for
    key = (cell.name, id(scheme), hidden_size)
    found = _known.get(key)
    if found is None or found[0] is not scheme:
        if len(_known) >= 1024:  # of models that were copied and are gone
            _known.clear()
        found = _known[key] = (scheme, _layout(cell, scheme, hidden_size))
    return found[1]


def _layout(cell: Step, scheme: NormScheme | None, hidden_size: int) -> Layout:
    norms = {} if scheme is None else scheme.norms
    h_site = "sum" if "sum" in norms else "hidden"
    of_rows = any(site in norms and not norms[site].over_batch for site in (h_site, "cell"))
    hoisted = "input" in norms and (
        norms["input"].over_time or (norms["input"].over_batch and of_rows)
    )
    wanted = ("" if hoisted else "input", h_site, "cell")
    sites = tuple(site if site in norms else "" for site in wanted)
    inside = {site: norms[site] for site in sites if site}
    spans = {} if scheme is None else cell.spans(scheme)
    ends = {
        site: _ends(cell, norm, spans.get(site, ""), hidden_size) for site, norm in inside.items()
    }
    of_gates = {found for site, found in ends.items() if site != "cell"}
    reason = _reason(cell, scheme, inside, spans, ends, of_gates)
    of_x = "x" if len(cell.states) == 1 else "h"  # the terms of an LSTM are only added
    kinds = tuple(inside[site].kind if site else None for site in sites)
    eps = tuple(inside[site].eps if site else 1.0 for site in sites)
    sets = (of_gates.pop() or ()) if of_gates else (len(cell.gates),)
    joined = h_site == "sum" or (kinds[:2] == (None, None) and len(cell.states) > 1)
    swapped = scheme is not None and (scheme.cell_state, scheme.update) != ("raw", "keep")
    return Layout(
        cell=cell.name,
        hidden_size=hidden_size,
        gates=len(cell.gates),
        reason=reason,
        sites=sites,  # type: ignore[arg-type]  # three, as wanted
        kinds=kinds,
        eps=eps,
        sets=sets,
        batch=any(norm.over_batch for norm in inside.values()),
        sum=h_site == "sum",
        joined=joined,
        swapped=swapped,
        hoisted=hoisted,
        places=(
            "" if hoisted else _place(scheme, "bias_ih", of_x),
            _place(scheme, "bias_hh", "h"),
            of_x,
            "h",
        ),
    )


def _ends(cell: Step, norm: Norm, span: str, hidden_size: int) -> tuple[int, ...] | None:
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
    cell: Step,
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
    if len({norm.over_batch for norm in inside.values()}) > 1:
        return "it has no kernel for norms of the batch and of a row together in the recurrence"
    for site, norm in inside.items():
        if norm.eps_on == "std":
            return "it has no kernel with eps added to the standard deviation"
        if ends[site] is None:
            return f"it has no kernel for sets={norm.sets!r}"
    return "it has no kernel for different sets of x and h" if len(of_gates) > 1 else None
