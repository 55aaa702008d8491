"""One layer in one direction: its parameters and norms, gathered for a backend.

Axes: B sequences, N packed rows, I inputs, H = hidden_size, P = size of h (H, or proj_size),
G gates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..statistics.moments import widen
from ..statistics.processes import Processes, sharing
from ..statistics.running_table import few_rows
from .dynamic import DynamicSiteNorm
from .int8 import dequantised, scale_name, scales_of
from .kinds import DYNAMIC
from .packing import Packing
from .scheme import NormScheme
from .site_norms import BatchSiteNorm, FeatureNorm, SiteNorm, SiteRun
from .step import State, Step
from .windows import WindowNorm

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_NORMS = {
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
    """Everything that one layer in one direction owns.

    Attributes:
        own: the further parameters that the step declares.
        norms: the norms by their sites.
        plans: the plan of each backend for this direction, by the backend's name. A plan depends on
            no tensor, so directions with other tensors share it.
        places: where ``gather`` found each parameter and norm: a dictionary, its key, the object.
        scales: the scales of each matrix of int8, by its name.
        named: the matrices, vectors and further parameters by name.
        affine: gain and bias of each norm, by its site.
        over_batch: true if one of the norms takes statistics over the rows of a step.
        tensors: every parameter and scale, in a fixed order.
    """

    step: Step
    scheme: NormScheme | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    own: dict[str, Tensor]
    norms: dict[str, SiteNorm]
    training: bool
    zoneout: tuple[float, ...]
    plans: dict[str, Any] = field(default_factory=dict)
    places: tuple[tuple[dict[str, Any], str, Any], ...] = ()
    scales: dict[str, Tensor] = field(default_factory=dict)
    named: dict[str, Tensor | None] = field(init=False)
    affine: dict[str, tuple[Tensor | None, Tensor | None]] = field(init=False)
    over_batch: bool = field(init=False)
    tensors: tuple[Tensor, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.over_batch = any([norm.norm.over_batch for norm in self.norms.values()])
        self.affine = {site: (norm.weight, norm.bias) for site, norm in self.norms.items()}
        self.named = {name: getattr(self, name) for name in _WEIGHTS}
        self.named.update(self.own)
        found = list(self.named.values())
        for site, norm in self.norms.items():
            found += self.affine[site]
            found += [getattr(norm, name) for name in norm.own]
        found += self.scales.values()
        self.tensors = tuple([tensor for tensor in found if tensor is not None])

    @property
    def dtype(self) -> torch.dtype:
        """The present dtype of the terms, which a conversion of the parameters changes."""
        return self.scales.get("weight_ih", self.weight_ih).dtype

    def in_floats(self) -> Direction:
        """Return this direction with floating-point matrices in place of those of int8."""
        if not self.scales:
            return self
        matrices: dict[str, Any] = {
            name: dequantised(getattr(self, name), scale) for name, scale in self.scales.items()
        }
        return replace(self, scales={}, **matrices)

    def holding(self, tensors: Sequence[Tensor]) -> Direction:
        """Return this direction with other ``tensors``, in the order of the attribute.

        Its norms keep their present mode and write to the same tables.
        """
        left = iter(tensors)

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else next(left)

        found: dict[str, Any] = {name: taken(tensor) for name, tensor in self.named.items()}
        own = {name: found.pop(name) for name in self.own}
        norms = {
            site: norm.holding(
                *[taken(getattr(norm, name)) for name in ("weight", "bias", *norm.own)]
            )
            for site, norm in self.norms.items()
        }
        return replace(self, own=own, norms=norms, **found)

    def is_of(
        self, module: nn.Module, step: Step, scheme: NormScheme | None, zoneout: tuple[float, ...]
    ) -> bool:
        """Return whether ``gather`` would find the same objects again.

        Parameters are compared by identity, so an exchanged or parametrised one is noticed.
        """
        if self.training is not module.training or self.zoneout != zoneout:
            return False
        return self.step is step and self.scheme is scheme and self.is_found_in(module)

    def is_found_in(self, module: nn.Module) -> bool:
        """Return whether the module has the same parameters and norms, in the same dictionaries."""
        parameters, modules = module._parameters, module._modules
        for where, name, found in self.places:
            if where.get(name) is not found:
                return False
        # A replica of the module has dictionaries of its own.
        return self.places[0][0] is parameters and self.places[-1][0] is modules

    def shared_with(self) -> list[Processes]:
        """Return the groups of processes with which the norms now share statistics."""
        tables = (norm for norm in self.norms.values() if isinstance(norm, BatchSiteNorm))
        found = (sharing(norm.table.processes, norm.learns) for norm in tables)
        return [processes for processes in found if processes is not None]

    def check(self, steps: int, first: int) -> None:
        """Check a pass over steps first, first + 1, ... before anything is computed.

        Raises:
            IndexError: a norm has no statistics for a step, and ``beyond="error"``.
        """
        for norm in self.norms.values():
            if isinstance(norm, BatchSiteNorm):
                norm.check(steps, first)

    def start(
        self, batch_sizes: list[int], first: int = 0, totals: list[int] | None = None
    ) -> SiteRun:
        """Begin a pass of the norms over time.

        Args:
            batch_sizes: rows of each step.
            first: number of the first step.
            totals: rows of each step in all processes that share statistics.
        """
        return SiteRun(
            {site: norm.start(batch_sizes, first, totals) for site, norm in self.norms.items()}
        )


# A call of a backend: the direction, packed rows (N, I), their packing, and the initial state.
DirectionCall = tuple[Direction, Tensor, Packing, State]


def register(
    module: nn.Module,
    suffix: str,
    step: Step,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    bias: bool,
    scheme: NormScheme | None,
    factory: dict[str, Any],
) -> None:
    """Register the parameters of one direction under torch's names plus ``suffix``."""
    rows = len(step.gates) * hidden_size

    def parameter(name: str, *shape: int) -> None:
        value = nn.Parameter(torch.empty(*shape, **factory))
        module.register_parameter(name + suffix, value)

    width = proj_size or hidden_size
    parameter("weight_ih", rows, input_size)
    parameter("weight_hh", *step.hidden_shape(hidden_size, width))
    for name in ("bias_ih", "bias_hh"):
        there = name in step.biases if scheme is None else getattr(scheme, name) is not None
        if bias and there:
            parameter(name, rows)
        else:
            module.register_parameter(name + suffix, None)
    if proj_size:
        parameter("weight_hr", proj_size, hidden_size)
    letters = {"H": hidden_size, "I": input_size, "G": len(step.gates)}
    for name, shape in step.parameters.items():
        parameter(name, *(letters[size] if isinstance(size, str) else size for size in shape))
    if scheme is None:
        return
    _ = scheme.text  # torch.compile reads this property but cannot compute it
    units = {"frame": input_size, "output": width}
    spans = step.spans(scheme) | {site: "" for site in units if site in scheme.norms}
    for site, span in spans.items():
        norm = scheme.sum if site == "candidate" else scheme.norms[site]
        assert norm is not None
        sizes = norm.sizes(step.gates, span, units.get(site, hidden_size), step.heads)
        built: SiteNorm
        if norm.over_batch:
            built = BatchSiteNorm(norm, sum(sizes), hidden_size, **factory)
        elif norm.kind in DYNAMIC:
            built = DynamicSiteNorm(norm, sum(sizes), hidden_size, **factory)
        else:
            cls = WindowNorm if norm.reaches_back else FeatureNorm
            built = cls(norm, sizes, hidden_size, **factory)
        module.add_module(_NORMS[site] + suffix, built)


def gather(
    module: nn.Module,
    suffix: str,
    step: Step,
    scheme: NormScheme | None,
    zoneout: tuple[float, ...],
) -> Direction:
    """Return the parameters and norms that ``register`` gave the module."""
    # ``Module.__getattr__`` is slow for missing names.
    norms = {site: module._modules.get(name + suffix) for site, name in _NORMS.items()}
    weights = [getattr(module, name + suffix, None) for name in _WEIGHTS]
    direction = Direction(
        *(step, scheme, *weights),  # type: ignore[arg-type]  # as registered
        own={name: getattr(module, name + suffix) for name in step.own},
        norms={site: norm for site, norm in norms.items() if norm is not None},  # type: ignore[misc]  # as registered
        training=module.training,
        zoneout=zoneout,
        scales=scales_of(module, suffix),
    )
    if not torch.compiler.is_compiling():
        direction.places = tuple(_places(direction, module, suffix))
    return direction


def _places(
    direction: Direction, module: nn.Module, suffix: str
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    for name, tensor in direction.named.items():
        if name not in direction.scales:
            yield module._parameters, name + suffix, tensor
    for name, scale in direction.scales.items():
        yield module._buffers, name + suffix, direction.named[name]
        yield module._buffers, scale_name(name + suffix), scale
    for site, norm in direction.norms.items():
        for name, tensor in zip(("weight", "bias"), direction.affine[site]):
            yield norm._parameters, name, tensor
        for name in norm.own:
            yield norm._parameters, name, getattr(norm, name)
    for site, name in _NORMS.items():
        yield module._modules, name + suffix, direction.norms.get(site)


@torch.no_grad()
def initialise(direction: Direction, hidden_size: int) -> None:
    """Draw parameters from torch's U(-1/sqrt(H), 1/sqrt(H)), unless the scheme says otherwise."""
    if direction.scales:
        raise RuntimeError(
            "weights of int8 cannot be drawn anew, as they cannot be trained: build another layer"
        )
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size else 0.0
    scheme, gates = direction.scheme, direction.step.gates
    for parameter in direction.named.values():  # in torch's order: a seed draws torch's numbers
        if parameter is not None:
            nn.init.uniform_(parameter, -bound, bound)
    for norm in direction.norms.values():
        norm.reset_parameters()
    if scheme is None:
        return
    for block in direction.step.hidden_blocks(direction.weight_hh, hidden_size):
        if scheme.hidden_init == "orthogonal":
            # There is no QR decomposition in half precision.
            block.copy_(nn.init.orthogonal_(widen(block)))
        elif scheme.hidden_init == "identity":
            nn.init.eye_(block)
    for bias in (direction.bias_ih, direction.bias_hh):
        if bias is not None and not isinstance(scheme.bias_init, str):
            nn.init.constant_(bias, scheme.bias_init)
    for gate, value in scheme.gate_bias:
        if gate not in gates:
            raise ValueError(
                f"gate_bias names gate {gate!r}; a {direction.step.name} has {gates!r}"
            )
        for span, bias in additive_biases(direction):
            if gate in span:
                start = span.index(gate) * hidden_size
                bias[start : start + hidden_size] = value
                value = 0.0  # the first takes it all


def small_batch(scheme: NormScheme | None, batch_sizes: list[int]) -> str | None:
    """Return a warning if no step of a training batch has enough rows for statistics."""
    for norm in () if scheme is None else scheme.norms.values():
        if norm.over_batch:
            rows = sum(batch_sizes) if norm.over_time else max(batch_sizes, default=0)
            if 0 < rows < norm.min_count:
                return few_rows(rows, norm.min_count)
    return None


def additive_biases(direction: Direction) -> Iterator[tuple[str, Tensor]]:
    """Yield each learned vector that is added after the norms, with the gates that it spans."""
    scheme = direction.scheme
    for name in ("bias_ih", "bias_hh"):
        bias = getattr(direction, name)
        if bias is not None and NormScheme.place_of(scheme, name) != "inside":
            yield direction.step.gates, bias
    if scheme is not None:
        for site, span in direction.step.spans(scheme).items():
            bias = direction.norms[site].bias
            if span and bias is not None:
                yield span, bias
