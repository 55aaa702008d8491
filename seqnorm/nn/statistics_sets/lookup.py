"""The set S that a layer averages over, with an entry for every norm of torch and this library.

Axes: N examples, C channels, L or D, H, W positions; of a recurrent layer T time steps, B
sequences, F units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, overload

from torch import nn
from torch.nn.utils import parametrize

from ..check import base_of
from ..layers.cell import RecurrentCell
from ..layers.layer import RecurrentLayer
from ..norms.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from ..norms.conditional import ConditionalBatchNorm2d
from ..norms.dynamic import DynamicErf, DynamicTanh
from ..norms.images import LayerNorm2d
from ..norms.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from ..norms.layout import SequenceNorm
from ..norms.mixtures import BatchInstanceNorm2d, SwitchableNorm2d
from ..norms.power import PowerNorm
from ..norms.sequence import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from ..norms.sequence_batch import BatchNorm
from ..norms.style import AdaptiveInstanceNorm2d, ConditionalInstanceNorm2d
from ..recurrence.dynamic import DynamicSiteNorm
from ..recurrence.site_norms import BatchSiteNorm, FeatureNorm, SiteNorm
from ..statistics.blending import Blending
from ..statistics.processes import Processes
from .description import SiteSets, StatisticsSet
from .mixed import MixedSets

POSITIONS = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


@overload
def statistics_set(layer: RecurrentLayer | RecurrentCell) -> SiteSets: ...  # type: ignore[overload-overlap]  # the narrower class comes first


@overload
def statistics_set(layer: BatchInstanceNorm2d | SwitchableNorm2d) -> MixedSets: ...  # type: ignore[overload-overlap]  # the narrower classes come first


@overload
def statistics_set(layer: nn.Module, spatial: int | None = None) -> StatisticsSet: ...


def statistics_set(
    layer: nn.Module, spatial: int | None = None
) -> StatisticsSet | SiteSets | MixedSets:
    """Return the set S of elements that share a mean and a variance in a layer.

    S is empty in a layer without statistics, such as ``DynamicTanh``.

    >>> print(statistics_set(nn.InstanceNorm2d(8)).words)
    one channel, one example, all positions

    Args:
        layer: a norm of this library or of torch, or a recurrent layer or cell of this library with
            any scheme.
        spatial: number of axes of positions, 1 to 3, for GroupNorm, SyncBatchNorm and the norms
            without statistics (``DynamicTanh``, ``DynamicErf``), which take any number. By default
            the first two are shown for images, and the others and
            ``seqnorm.GroupNorm(..., layout="NTC")`` for sequences.

    Returns:
        A ``StatisticsSet``, which has ``print``, ``mask`` and ``svg()``; a notebook shows the
        picture. For a recurrent layer a mapping from its sites, as ``NormScheme`` names them, to
        their sets, which can be printed and drawn likewise. For ``BatchInstanceNorm2d`` and
        ``SwitchableNorm2d`` such a mapping from "batch", "instance" and "layer" to their sets.

    Raises:
        TypeError: the layer is not one of these, or is of a subclass with a ``forward`` of its own.
        ValueError: the recurrent layer has no norm, or ``spatial`` does not fit the norm.
    """
    known = base_of(layer, _RULES)
    if spatial is not None:
        if known is None or known not in _ANY_POSITIONS:
            anyhow = " and ".join(sorted({cls.__name__ for cls in _ANY_POSITIONS}))
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
        return f"{name} does not know its channels yet: call it once first"
    if isinstance(layer, nn.RNNBase):
        return (
            f'torch.nn.{name} has no norm; seqnorm.{name}.from_torch(layer, norm="layer") has one'
        )
    inside = [
        path
        for path, module in layer.named_modules()
        if path and (isinstance(module, (RecurrentLayer, RecurrentCell)) or base_of(module, _RULES))
    ]
    if inside:
        return (
            f"{name} is not a norm but contains some: ask for one of them, such as "
            f"statistics_set(model.get_submodule({inside[0]!r})); they are {', '.join(inside)}"
        )
    return f"{name} is not a norm that statistics_set knows: give a norm of torch.nn or of seqnorm"


def _of_recurrence(layer: RecurrentLayer | RecurrentCell) -> SiteSets:
    name = parametrize.type_before_parametrizations(layer).__name__
    if layer.norm is None:
        raise ValueError(f'this {name} has no norm: build it with norm="layer", say, to see a set')
    direction = layer.directions()[0] if isinstance(layer, RecurrentLayer) else layer.direction()
    gates = direction.step.spans(layer.norm)
    sites = direction.norms.items()
    sets = ((site, _of_site(f"{name}, {site}", norm, gates.get(site, ""))) for site, norm in sites)
    return SiteSets(name, tuple(sets))


def _of_site(name: str, site: SiteNorm, gates: str) -> StatisticsSet:
    gates = gates if len(gates) > 1 else ""
    one = StatisticsSet(name, ("T", "B", "F"), (), channels=site.features, gates=gates)
    if isinstance(site, BatchSiteNorm):
        over_time = site.norm.over_time
        spans = ("T", "B") if over_time else ("B",)
        remark = _remark(site.table.processes, 0 if over_time else site.norm.min_count)
        return replace(one, spans=spans, running=True, per_step=not over_time, remark=remark)
    if isinstance(site, DynamicSiteNorm):
        return replace(one, centred=False, empty=True)
    assert isinstance(site, FeatureNorm)
    norm = site.norm
    one = replace(one, centred=norm.kind == "layer", part=norm.part, window=norm.window or 1)
    return _divided(one, site.sizes)


def _divided(of: StatisticsSet, sizes: tuple[int, ...]) -> StatisticsSet:
    """Return the set with its channels divided into sets of these sizes."""
    if len(sizes) == 1:
        return replace(of, spans=tuple(a for a in of.axes if a in (*of.spans, of.channel_axis)))
    return of if max(sizes) == 1 else replace(of, groups=sizes)


def _grouped(of: StatisticsSet, layer: Any) -> StatisticsSet:
    return _divided(of, (of.channels // layer.num_groups,) * layer.num_groups)


def _remark(processes: Processes | None, least: int = 0) -> str:
    """Return the remark on processes, and on steps that fewer than ``least`` sequences reach."""
    together = "" if processes is None else "The mini-batch is that of all processes."
    few = f"Steps that fewer than {least} sequences reach take running statistics in training too."
    return " ".join(filter(None, (together, few if least else "")))


def _set(layer: Any, axes: Sequence[str], spans: str, **options: Any) -> StatisticsSet:
    """Return the set for a tensor with these axes; "*" in ``spans`` means all positions."""
    spanned = tuple(a for a in axes if a in spans or ("*" in spans and a not in "NC"))
    channels = getattr(layer, "num_features", getattr(layer, "num_channels", 0))
    return StatisticsSet(type(layer).__name__, tuple(axes), spanned, channels=channels, **options)


def _sequences(layer: SequenceNorm, spans: str, **options: Any) -> StatisticsSet:
    return _set(layer, layer.layout, spans, **options)


def _batch_norm(layer: BatchNorm) -> StatisticsSet:
    spans = "N" if layer.per_step else "NT"
    remark = _remark(layer.table.processes, layer.table.min_count if layer.per_step else 0)
    of = _sequences(layer, spans, running=True, per_step=layer.per_step, remark=remark)
    return _blend(of, layer)


def _blend(of: StatisticsSet, layer: nn.Module) -> StatisticsSet:
    """Return the set with a remark on the blend of a norm that ``fit_eval_norm`` has fitted."""
    if not isinstance(layer, Blending) or layer.share is None:
        return of
    mean, var = (f"{share:.4g}" for share in layer.share.tolist())
    blend = f"Inference blends them with those of the {of.example} itself"
    return _with_remark(of, f"{blend}: {mean} of its mean and {var} of its variance.")


def _positions(layer: Any, dims: int, spans: str, **options: Any) -> StatisticsSet:
    return _set(layer, ("N", "C", *POSITIONS[dims]), spans, **options)


def _tracked(layer: Any, dims: int, spans: str) -> StatisticsSet:
    synced = Processes() if isinstance(layer, nn.SyncBatchNorm) else None
    remark = _remark(getattr(layer, "processes", synced))
    running = layer.running_mean is not None
    return _blend(_positions(layer, dims, spans, running=running, remark=remark), layer)


def _with_remark(of: StatisticsSet, remark: str) -> StatisticsSet:
    return replace(of, remark=f"{of.remark} {remark}".strip())


def _mixed(layer: nn.Module, parts: tuple[str, ...], mixture: str) -> MixedSets:
    rules: dict[str, Callable[[Any], StatisticsSet]] = {
        "batch": partial(_tracked, dims=2, spans="N*"),
        "instance": partial(_positions, dims=2, spans="*"),
        "layer": partial(_positions, dims=2, spans="C*"),
    }
    sets = tuple((part, rules[part](layer)) for part in parts)
    return MixedSets(type(layer).__name__, sets, mixture)


def _group_norm(layer: nn.GroupNorm | GroupNorm, dims: int) -> StatisticsSet:
    if getattr(layer, "layout", "NCT") == "NTC":
        raise ValueError('GroupNorm with layout="NTC" takes only sequences: leave spatial out')
    return _grouped(_positions(layer, dims, "*"), layer)


def _last_axes(layer: Any) -> StatisticsSet:
    name, shape = type(layer).__name__, tuple(layer.normalized_shape)
    if not 1 <= len(shape) <= 4:
        raise TypeError(
            f"{name} with normalized_shape {shape}: statistics_set names up to four axes"
        )
    axes = ("N", "C", *POSITIONS[len(shape) - 1]) if len(shape) > 1 else ("N", "L", "C")
    spans = axes[1:] if len(shape) > 1 else ("C",)
    centred = isinstance(layer, nn.LayerNorm)
    return StatisticsSet(name, axes, spans, channels=shape[0], centred=centred)


def _dynamic(layer: DynamicTanh | DynamicErf, dims: int) -> StatisticsSet:
    if layer.layout == "NTC":
        raise ValueError(
            f'{type(layer).__name__} with layout="NTC" is shown for sequences: leave spatial out'
        )
    return _positions(layer, dims, "", centred=False, empty=True)


def _dynamic_of_sequences(layer: DynamicTanh | DynamicErf) -> StatisticsSet:
    return _set(layer, layer.layout, "", centred=False, empty=True)


_ANY_POSITIONS: dict[type[nn.Module], Callable[[Any, int], StatisticsSet]] = {
    GroupNorm: _group_norm,
    nn.GroupNorm: _group_norm,
    nn.SyncBatchNorm: partial(_tracked, spans="N*"),
    DynamicTanh: _dynamic,
    DynamicErf: _dynamic,
}
_RULES: dict[type[nn.Module], Callable[[Any], StatisticsSet | MixedSets]] = {
    LayerNorm: partial(_sequences, spans="C"),
    RMSNorm: lambda layer: _sequences(layer, "C", centred=False, part=layer.part),
    GroupNorm: lambda layer: (
        _grouped(_sequences(layer, "T"), layer) if layer.layout == "NTC" else _group_norm(layer, 2)
    ),
    InstanceNorm: partial(_sequences, spans="T"),
    BatchNorm: _batch_norm,
    PowerNorm: partial(
        _sequences,
        spans="NT",
        running=True,
        centred=False,
        remark="After its warm-up, training normalises by the running statistics of the batches "
        "before.",
    ),
    LayerNorm2d: partial(_positions, dims=2, spans="C"),
    ConditionalInstanceNorm2d: lambda layer: _positions(
        layer, 2, "*", remark=f"Gain and bias: those of one of {layer.num_styles} styles."
    ),
    ConditionalBatchNorm2d: lambda layer: _with_remark(
        _tracked(layer, 2, "N*"), f"Gain and bias: those of one of {layer.num_classes} classes."
    ),
    AdaptiveInstanceNorm2d: partial(
        _positions, dims=2, spans="*", remark="Gain and bias: from a style's features."
    ),
    BatchInstanceNorm2d: partial(
        _mixed,
        parts=("batch", "instance"),
        mixture="In each channel, values normalised over the batch have the share rho, and values "
        "normalised over the instance have the rest.",
    ),
    SwitchableNorm2d: partial(
        _mixed,
        parts=("instance", "layer", "batch"),
        mixture="The means are mixed in the shares softmax(mean_weight), the variances in the "
        "shares softmax(var_weight).",
    ),
    nn.GroupNorm: partial(_group_norm, dims=2),
    nn.SyncBatchNorm: partial(_tracked, dims=2, spans="N*"),
    nn.LayerNorm: _last_axes,
    DynamicTanh: _dynamic_of_sequences,
    DynamicErf: _dynamic_of_sequences,
}
if hasattr(nn, "RMSNorm"):  # since torch 2.4
    _RULES[nn.RMSNorm] = _last_axes
for _dims, _batch, _instance in (
    (1, BatchNorm1d, InstanceNorm1d),
    (2, BatchNorm2d, InstanceNorm2d),
    (3, BatchNorm3d, InstanceNorm3d),
):
    for _norm, _spans in ((_batch, "N*"), (_instance, "*")):
        _rule = partial(_tracked, dims=_dims, spans=_spans)
        _RULES[_norm] = _RULES[getattr(nn, _norm.__name__)] = _rule
