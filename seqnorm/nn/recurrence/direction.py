"""One layer in one direction: its parameters, and the call that a backend answers.

Axes: B sequences, N packed rows, I inputs, H = hidden_size, P = size of h (H, or proj_size),
G gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..statistics.moments import widen
from ..statistics.processes import Processes, sharing
from ..statistics.running_table import few_rows
from .scheme import NormScheme
from .site_norms import BatchSiteNorm, FeatureNorm, SiteNorm, SiteRun
from .step import Step

_SITES = {
    "input": "norm_ih",
    "hidden": "norm_hh",
    "sum": "norm_sum",
    "candidate": "norm_candidate",
    "cell": "norm_cell",
    "frame": "norm_frame",
    "output": "norm_output",
}


@dataclass
class Direction:
    """Everything that one layer in one direction owns, gathered for a call."""

    cell: Step
    scheme: NormScheme | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    sites: dict[str, SiteNorm]
    training: bool
    zoneout: tuple[float, ...]

    def tensors(self) -> list[Tensor]:
        """Every parameter."""
        own = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_hr)
        of_norms = (value for site in self.sites.values() for value in (site.weight, site.bias))
        return [value for value in (*own, *of_norms) if value is not None]

    def holding(self, tensors: Sequence[Tensor]) -> Direction:
        """The same with ``tensors``, as ``tensors()`` gives them, and norms in the mode of now."""
        left = iter(tensors)

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else next(left)

        own: dict[str, Any] = {
            name: taken(getattr(self, name))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        }
        sites = {
            site: norm.holding(taken(norm.weight), taken(norm.bias))
            for site, norm in self.sites.items()
        }
        return replace(self, sites=sites, **own)

    def shared_with(self) -> list[Processes]:
        """Those with whom each norm shares its statistics in a pass now, where one does."""
        norms = (norm for norm in self.sites.values() if isinstance(norm, BatchSiteNorm))
        found = (sharing(norm.table.processes, norm.training) for norm in norms)
        return [processes for processes in found if processes is not None]

    def check(self, steps: int, first: int) -> None:
        """Refuse a pass over steps first, first + 1, ... before anything of it is computed.

        Raises:
            IndexError: a norm has no statistics for a step, and ``beyond="error"``.
        """
        for norm in self.sites.values():
            if isinstance(norm, BatchSiteNorm):
                norm.check(steps, first)

    def start(
        self, batch_sizes: list[int], first: int = 0, totals: list[int] | None = None
    ) -> SiteRun:
        """The norms for one pass over time; ``totals`` are the rows in all processes that share."""
        return SiteRun(
            {site: norm.start(batch_sizes, first, totals) for site, norm in self.sites.items()}
        )


def register(
    module: nn.Module,
    suffix: str,
    cell: Step,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    bias: bool,
    scheme: NormScheme | None,
    factory: dict[str, Any],
) -> None:
    """Give ``module`` the parameters of one direction, under torch's names plus ``suffix``."""
    rows = len(cell.gates) * hidden_size

    def parameter(name: str, *shape: int) -> None:
        value = nn.Parameter(torch.empty(*shape, **factory))
        module.register_parameter(name + suffix, value)

    width = proj_size or hidden_size
    parameter("weight_ih", rows, input_size)
    parameter("weight_hh", *cell.hidden_shape(hidden_size, width))
    for name in ("bias_ih", "bias_hh"):
        there = name in cell.biases if scheme is None else getattr(scheme, name) is not None
        if bias and there:
            parameter(name, rows)
        else:
            module.register_parameter(name + suffix, None)
    if proj_size:
        parameter("weight_hr", proj_size, hidden_size)
    if scheme is None:
        return
    _ = scheme.text  # made now, for torch.compile reads it but could not make it
    units = {"frame": input_size, "output": width}
    spans = cell.spans(scheme) | {site: "" for site in units if site in scheme.norms}
    for site, span in spans.items():
        norm = scheme.sum if site == "candidate" else scheme.norms[site]
        assert norm is not None
        sizes = norm.sizes(cell.gates, span, units.get(site, hidden_size), cell.heads)
        built: SiteNorm
        if norm.over_batch:
            built = BatchSiteNorm(norm, sum(sizes), hidden_size, **factory)
        else:
            built = FeatureNorm(norm, sizes, hidden_size, **factory)
        module.add_module(_SITES[site] + suffix, built)


def gather(
    module: nn.Module,
    suffix: str,
    cell: Step,
    scheme: NormScheme | None,
    zoneout: tuple[float, ...],
) -> Direction:
    """What ``register`` gave the module, for a call."""
    # Not by getattr, which takes long to say that there is none.
    sites = {site: module._modules.get(name + suffix) for site, name in _SITES.items()}
    return Direction(
        cell=cell,
        scheme=scheme,
        weight_ih=getattr(module, "weight_ih" + suffix),
        weight_hh=getattr(module, "weight_hh" + suffix),
        bias_ih=getattr(module, "bias_ih" + suffix),
        bias_hh=getattr(module, "bias_hh" + suffix),
        weight_hr=getattr(module, "weight_hr" + suffix, None),
        sites={site: norm for site, norm in sites.items() if norm is not None},  # type: ignore[misc]  # as registered
        training=module.training,
        zoneout=zoneout,
    )


@torch.no_grad()
def initialise(direction: Direction, hidden_size: int) -> None:
    """Draw the parameters: torch's U(-1/sqrt(H), 1/sqrt(H)), and what the scheme sets otherwise."""
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size else 0.0
    scheme, gates = direction.scheme, direction.cell.gates
    # torch's order, so that a seed draws torch's numbers.
    biases = (direction.bias_ih, direction.bias_hh)
    for parameter in (direction.weight_ih, direction.weight_hh, *biases, direction.weight_hr):
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)
    for site in direction.sites.values():
        site.reset_parameters()
    if scheme is None:
        return
    for block in direction.cell.hidden_blocks(direction.weight_hh, hidden_size):
        if scheme.hidden_init == "orthogonal":
            # Drawn in float32 at least: there is no QR decomposition in half precision.
            block.copy_(nn.init.orthogonal_(widen(block)))
        elif scheme.hidden_init == "identity":
            nn.init.eye_(block)
    for bias in (direction.bias_ih, direction.bias_hh):
        if bias is not None and not isinstance(scheme.bias_init, str):
            nn.init.constant_(bias, scheme.bias_init)
    for gate, value in scheme.gate_bias:
        if gate not in gates:
            raise ValueError(
                f"gate_bias names gate {gate!r}; a {direction.cell.name} has {gates!r}"
            )
        for span, bias in additive_biases(direction):
            if gate in span:
                start = span.index(gate) * hidden_size
                bias[start : start + hidden_size] = value
                value = 0.0  # the first takes it all


def small_batch(scheme: NormScheme | None, batch_sizes: list[int]) -> str | None:
    """What to warn of when no step of a training batch has rows enough for statistics."""
    for norm in () if scheme is None else scheme.norms.values():
        if norm.over_batch:
            rows = sum(batch_sizes) if norm.over_time else max(batch_sizes, default=0)
            if 0 < rows < norm.min_count:
                return few_rows(rows, norm.min_count)
    return None


def additive_biases(direction: Direction) -> list[tuple[str, Tensor]]:
    """Every learned vector that is added to gates after the norms, with the gates it spans."""
    found: list[tuple[str, Tensor]] = []
    scheme, gates = direction.scheme, direction.cell.gates
    for name in ("bias_ih", "bias_hh"):
        bias = getattr(direction, name)
        if bias is not None and NormScheme.place_of(scheme, name) != "inside":
            found.append((gates, bias))
    if scheme is not None:
        for site, span in direction.cell.spans(scheme).items():
            bias = direction.sites[site].bias
            if span and bias is not None:
                found.append((span, bias))
    return found
