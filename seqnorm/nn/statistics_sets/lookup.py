"""Which set S a layer averages over: one entry for every norm that torch and this library have.

Axes: N examples, C channels, L or D, H, W positions; of a recurrent layer T time steps, B
sequences, F units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, overload

from torch import nn

from ..check import base_of
from ..layers.cell import RecurrentCell
from ..layers.layer import RecurrentLayer
from ..norms.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from ..norms.images import LayerNorm2d
from ..norms.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from ..norms.layout import SequenceNorm
from ..norms.sequence import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from ..norms.style import AdaptiveInstanceNorm2d, ConditionalInstanceNorm2d
from ..recurrence.site_norms import BatchSiteNorm, FeatureNorm, SiteNorm
from ..statistics.processes import Processes
from .description import SiteSets, StatisticsSet

POSITIONS = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


@overload
def statistics_set(layer: RecurrentLayer | RecurrentCell) -> SiteSets: ...  # type: ignore[overload-overlap]  # the narrower class comes first


@overload
def statistics_set(layer: nn.Module, spatial: int | None = None) -> StatisticsSet: ...


def statistics_set(layer: nn.Module, spatial: int | None = None) -> StatisticsSet | SiteSets:
    """Which elements share a mean and a variance in a layer: its set S, in words and as a picture.

    >>> print(statistics_set(nn.InstanceNorm2d(8)).words)
    one channel, one example, all positions

    Args:
        layer: a norm of this library or of torch, or a recurrent layer or cell of this library,
            whatever its scheme.
        spatial: how many axes of positions there are, 1 to 3, for a norm that takes any number:
            GroupNorm and SyncBatchNorm. By default they are shown on images, and
            ``seqnorm.GroupNorm(..., layout="NTC")`` on sequences.

    Returns:
        A ``StatisticsSet``: ``print`` it, ask it for a ``mask``, or for an image with ``svg()``; a
        notebook shows the image. Of a recurrent layer a mapping of them by site, as ``NormScheme``
        names the sites, which can be printed and drawn alike.

    Raises:
        TypeError: the layer is none of these, or a class derived from one that computes something
            of its own.
        ValueError: the recurrent layer has no norm, or ``spatial`` is none of its numbers.
    """
    known = base_of(layer, _RULES)
    if spatial is not None:
        if known not in _ANY_POSITIONS:
            anyhow = " and ".join(sorted({cls.__name__ for cls in _ANY_POSITIONS if cls}))
            raise ValueError(
                f"spatial={spatial!r} is for norms that take any number of axes ({anyhow}), and "
                f"{type(layer).__name__} takes its own: leave it out"
            )
        if spatial not in POSITIONS:
            raise ValueError(f"spatial must be 1, 2 or 3, got {spatial!r}")
        return _ANY_POSITIONS[known](layer, spatial)
    if isinstance(layer, (RecurrentLayer, RecurrentCell)):
        return _of_recurrence(layer)
    if isinstance(layer, SiteNorm):
        return _of_site(type(layer).__name__, layer, "")
    if known is not None:
        return _RULES[known](layer)
    raise TypeError(_refusal(layer))


def _refusal(layer: nn.Module) -> str:
    name = type(layer).__name__
    if not isinstance(layer, nn.Module):
        return f"statistics_set takes a layer, got {layer!r} ({name})"
    if any(cls in _RULES for cls in type(layer).__mro__):
        return (
            f"{name} derives from a norm but has a forward of its own, which may average over "
            "something else: statistics_set knows torch's and seqnorm's own norms"
        )
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return f"{name} does not know its channels yet: call it once, and ask then"
    if isinstance(layer, nn.RNNBase):
        return (
            f'torch.nn.{name} has no norm; seqnorm.{name}.from_torch(layer, norm="layer") is one '
            "that has"
        )
    inside = [
        path
        for path, module in layer.named_modules()
        if path and (isinstance(module, (RecurrentLayer, RecurrentCell)) or base_of(module, _RULES))
    ]
    if inside:
        return (
            f"{name} is no norm, but has some inside: ask for one of them, as "
            f"statistics_set(model.get_submodule({inside[0]!r})); they are {', '.join(inside)}"
        )
    return f"{name} is no norm that statistics_set knows: give a norm of torch.nn or of seqnorm"


def _of_recurrence(layer: RecurrentLayer | RecurrentCell) -> SiteSets:
    name = type(layer).__name__
    if layer.norm is None:
        raise ValueError(f'this {name} has no norm: build it with norm="layer", say, to see a set')
    direction = layer.directions()[0] if isinstance(layer, RecurrentLayer) else layer.direction()
    spans = direction.step.spans(layer.norm)
    sites = [
        (site, _of_site(f"{name}, {site}", norm, spans.get(site, "")))
        for site, norm in direction.norms.items()
    ]
    return SiteSets(name, tuple(sites))


def _of_site(name: str, site: SiteNorm, gates: str) -> StatisticsSet:
    axes = ("T", "B", "F")
    gates = gates if len(gates) > 1 else ""
    if isinstance(site, BatchSiteNorm):
        over_time = site.norm.over_time
        return StatisticsSet(
            name,
            axes,
            ("T", "B") if over_time else ("B",),
            channels=site.features,
            running=True,
            per_step=not over_time,
            gates=gates,
            remark=_remark(site.table.processes, 0 if over_time else site.norm.min_count),
        )
    assert isinstance(site, FeatureNorm)
    centred = site.norm.kind == "layer"
    whole = StatisticsSet(name, axes, (), channels=site.features, centred=centred, gates=gates)
    return _divided(whole, site.sizes)


def _divided(of: StatisticsSet, sizes: tuple[int, ...]) -> StatisticsSet:
    """The same set with its channels in sets of these sizes."""
    if len(sizes) == 1:
        return replace(of, spans=tuple(a for a in of.axes if a in (*of.spans, of.channel_axis)))
    return of if max(sizes) == 1 else replace(of, groups=sizes)


def _grouped(of: StatisticsSet, groups: int) -> StatisticsSet:
    return _divided(of, (of.channels // groups,) * groups)


def _sequences(layer: SequenceNorm, spans: str, **options: Any) -> StatisticsSet:
    axes = tuple(layer.layout)
    spanned = tuple(axis for axis in axes if axis in spans)
    channels = layer.num_channels
    return StatisticsSet(type(layer).__name__, axes, spanned, channels=channels, **options)


def _batch_norm(layer: BatchNorm) -> StatisticsSet:
    spans = "N" if layer.per_step else "NT"
    remark = _remark(layer.table.processes, layer.table.min_count if layer.per_step else 0)
    return _sequences(layer, spans, running=True, per_step=layer.per_step, remark=remark)


def _remark(processes: Processes | None, least: int = 0) -> str:
    """On norms of the batch that share it with others, and on steps with fewer than ``least``."""
    said = [] if processes is None else ["The mini-batch is that of all processes."]
    if least:
        said.append(
            f"Steps that fewer than {least} sequences reach take running statistics in training "
            "too."
        )
    return " ".join(said)


def _positions(layer: nn.Module, dims: int, spans: str, **options: Any) -> StatisticsSet:
    """x (N, C, *positions); "*" in ``spans`` are all positions."""
    axes = ("N", "C", *POSITIONS[dims])
    spanned = tuple(a for a in axes if a in spans or ("*" in spans and a in POSITIONS[dims]))
    return StatisticsSet(type(layer).__name__, axes, spanned, **options)


def _over_the_batch(dims: int) -> Callable[[Any], StatisticsSet]:
    return lambda layer: _tracked(layer, dims, "N*")


def _over_an_instance(dims: int) -> Callable[[Any], StatisticsSet]:
    return lambda layer: _tracked(layer, dims, "*")


def _tracked(layer: Any, dims: int, spans: str) -> StatisticsSet:
    running = layer.running_mean is not None
    remark = _remark(getattr(layer, "processes", None))
    return _positions(
        layer, dims, spans, channels=layer.num_features, running=running, remark=remark
    )


def _of_style(layer: nn.Module) -> StatisticsSet:
    if isinstance(layer, ConditionalInstanceNorm2d):
        remark = f"Gain and bias: those of one of {layer.num_styles} styles."
        return _positions(layer, 2, "*", channels=layer.num_features, remark=remark)
    return _positions(layer, 2, "*", remark="Gain and bias: from a style's features.")


def _group_norm(layer: nn.GroupNorm | GroupNorm, dims: int) -> StatisticsSet:
    if getattr(layer, "layout", "NCT") == "NTC":
        raise ValueError('GroupNorm with layout="NTC" takes sequences alone: leave spatial out')
    whole = _positions(layer, dims, "*", channels=layer.num_channels)
    return _grouped(whole, layer.num_groups)


def _groups_in_layout(layer: GroupNorm) -> StatisticsSet:
    if layer.layout == "NCT":
        return _group_norm(layer, 2)
    return _grouped(_sequences(layer, "T"), layer.num_groups)


def _over_all_processes(layer: nn.SyncBatchNorm, dims: int) -> StatisticsSet:
    return replace(_over_the_batch(dims)(layer), remark=_remark(Processes()))


def _last_axes(layer: Any) -> StatisticsSet:
    name, shape = type(layer).__name__, tuple(layer.normalized_shape)
    centred = isinstance(layer, nn.LayerNorm)
    if len(shape) == 1:
        return StatisticsSet(name, ("N", "L", "C"), ("C",), channels=shape[0], centred=centred)
    axes = {2: ("N", "C", "L"), 3: ("N", "C", "H", "W"), 4: ("N", "C", "D", "H", "W")}
    if len(shape) not in axes:
        raise TypeError(
            f"{name} with normalized_shape {shape}: statistics_set names up to four axes"
        )
    own = axes[len(shape)]
    return StatisticsSet(name, own, own[1:], channels=shape[0], centred=centred)


_ANY_POSITIONS: dict[type[nn.Module] | None, Callable[[Any, int], StatisticsSet]] = {
    GroupNorm: _group_norm,
    nn.GroupNorm: _group_norm,
    nn.SyncBatchNorm: _over_all_processes,
}
_RULES: dict[type[nn.Module], Callable[[Any], StatisticsSet]] = {
    LayerNorm: lambda layer: _sequences(layer, "C"),
    RMSNorm: lambda layer: _sequences(layer, "C", centred=False),
    GroupNorm: _groups_in_layout,
    InstanceNorm: lambda layer: _sequences(layer, "T"),
    BatchNorm: _batch_norm,
    LayerNorm2d: lambda layer: _positions(layer, 2, "C", channels=layer.num_channels),
    ConditionalInstanceNorm2d: _of_style,
    AdaptiveInstanceNorm2d: _of_style,
    nn.GroupNorm: lambda layer: _group_norm(layer, 2),
    nn.SyncBatchNorm: lambda layer: _over_all_processes(layer, 2),
    nn.LayerNorm: _last_axes,
}
if hasattr(nn, "RMSNorm"):  # since torch 2.4
    _RULES[nn.RMSNorm] = _last_axes
for _dims, _batch, _instance in (
    (1, BatchNorm1d, InstanceNorm1d),
    (2, BatchNorm2d, InstanceNorm2d),
    (3, BatchNorm3d, InstanceNorm3d),
):
    _RULES[_batch] = _RULES[getattr(nn, _batch.__name__)] = _over_the_batch(_dims)
    _RULES[_instance] = _RULES[getattr(nn, _instance.__name__)] = _over_an_instance(_dims)
