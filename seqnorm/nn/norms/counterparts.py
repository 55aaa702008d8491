"""The class and the options of the norm that replaces another, and the losses in a replacement.

Axes: N examples, C channels, then positions: L of signals, H, W of images, D, H, W of volumes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..check import base_of, check_positive, choose
from .batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .images import LayerNorm2d
from .instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .sequence import GroupNorm

TARGETS = ("batch", "group", "instance", "layer", "none")
GROUPS = 32  # of Wu & He 2018
BATCH: dict[int, type[nn.Module]] = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}
INSTANCE: dict[int, type[nn.Module]] = {1: InstanceNorm1d, 2: InstanceNorm2d, 3: InstanceNorm3d}
# Every class that can be replaced, and its number of axes of positions; 0 if it takes any.
SOURCES: dict[type, int] = {
    **{cls: dims for family in (BATCH, INSTANCE) for dims, cls in family.items()},
    **{getattr(nn, f"{of}Norm{dims}d"): dims for of in ("Batch", "Instance") for dims in (1, 2, 3)},
    nn.SyncBatchNorm: 0,
    nn.GroupNorm: 0,
    GroupNorm: 0,
    LayerNorm2d: 2,
}
OF_BATCH = nn.modules.batchnorm._BatchNorm
OF_INSTANCE = nn.modules.instancenorm._InstanceNorm
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """The wanted norm; the fields are arguments of ``convert_norm``.

    Raises:
        ValueError: ``to`` is unknown, or another option does not belong to it.
        TypeError: an option has the wrong type.
    """

    to: str
    num_groups: int | None = None
    group_size: int | None = None
    affine: bool | None = None

    def __post_init__(self) -> None:
        choose("to", self.to, TARGETS)
        for name in ("num_groups", "group_size"):
            number = getattr(self, name)
            if number is not None:
                check_positive(name, number)
                if self.to != "group":
                    raise ValueError(
                        f'{name} is for to="group", and to is {self.to!r}: leave it out'
                    )
        if self.num_groups is not None and self.group_size is not None:
            raise ValueError("num_groups and group_size both say how many groups: give one of them")
        if self.affine is not None and not isinstance(self.affine, bool):
            raise TypeError(f"affine must be True, False or None, got {self.affine!r}")
        if self.to == "none" and self.affine is not None:
            raise ValueError('to="none" leaves neither norm nor gain: leave affine out')

    def instead(
        self, norms: dict[str, nn.Module], shapes: dict[str, list[Shape]], home: Tensor
    ) -> dict[str, nn.Module]:
        """Return the replacement of every norm, by path.

        Args:
            norms: modules of the classes ``SOURCES``, by path.
            shapes: the known shapes of their inputs, by path.
            home: a tensor whose device and dtype replace those of a norm without tensors.

        Raises:
            ValueError: a norm cannot be replaced; the message has its path.
        """
        common = math.gcd(*(_channels(old) for old in norms.values()))
        new = {}
        for path, old in norms.items():
            try:
                new[path] = self._one(old, shapes.get(path, []), home, common)
            except ValueError as error:
                at = f"{path or 'the model'} ({type(old).__name__})"
                raise ValueError(f"{at}: {error}") from None
        return new

    def _one(self, old: Any, shapes: list[Shape], home: Tensor, common: int) -> nn.Module:
        if self.to == "none":
            return nn.Identity().train(old.training)
        held = next((t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()), home)
        single = [shape for shape in shapes if len(shape) == SOURCES[_base(old)] + 1]
        if isinstance(old, OF_INSTANCE) and single and self.to != "instance":
            raise ValueError(
                f"x {single[0]} is one example without the axis N, which only InstanceNorm takes: "
                "pass batches to the model"
            )
        affine = old.weight is not None if self.affine is None else self.affine
        new = self._built(
            old, shapes, common, affine, eps=old.eps, device=held.device, dtype=held.dtype
        )
        if affine and old.weight is not None:
            for name in ("weight", "bias"):  # the parameter objects themselves
                new.register_parameter(name, getattr(old, name))
        if _running(new) is not None and _running(old) is not None and isinstance(old, OF_BATCH):
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                new.register_buffer(name, getattr(old, name))
        return new.train(old.training)

    def _built(
        self, old: Any, shapes: list[Shape], common: int, affine: bool, **options: Any
    ) -> nn.Module:
        channels = _channels(old)
        if self.to == "group":
            groups = self._groups(old, shapes, common)
            # torch's norms have the channels second, with three axes too.
            layout = getattr(old, "layout", "NCT")
            return GroupNorm(groups, channels, affine=affine, layout=layout, **options)
        dims = _dims(old, shapes)
        if self.to == "batch":
            tracks = old.track_running_stats if isinstance(old, OF_BATCH) else True
            options |= {"momentum": getattr(old, "momentum", 0.1), "track_running_stats": tracks}
            return BATCH[max(1, dims)](channels, affine=affine, **options)
        if self.to == "instance":
            _check_positions(old, shapes)
            return INSTANCE[dims](channels, affine=affine, **options)
        if dims != 2:
            raise ValueError(
                "LayerNorm2d is for images (N, C, H, W); the set of all channels and all positions "
                'is to="group", num_groups=1'
            )
        return LayerNorm2d(channels, elementwise_affine=affine, **options)

    def _groups(self, old: nn.Module, shapes: list[Shape], common: int) -> int:
        """Return the number of groups, checked against the channels and the known shapes."""
        channels, size = _channels(old), self.group_size
        groups = self.num_groups or GROUPS if size is None else channels // size
        if groups == 0 or channels % groups or (size is not None and channels % size):
            most = GROUPS if self.num_groups is None else self.num_groups
            fit = max(n for n in range(1, most + 1) if common % n == 0)
            what = f"{groups} groups" if size is None else f"groups of {size} channels"
            raise ValueError(
                f"{channels} channels do not fall into {what}: write num_groups={fit}, which "
                "divides the channels of every norm here"
            )
        alone = [shape for shape in shapes if _positions(old, shape) * channels == groups]
        if alone:
            raise ValueError(
                f"x {alone[0]} has one element in each of {groups} groups, and a set of one "
                "element is always normalised to 0: write fewer groups"
            )
        return groups


def losses(old: dict[str, nn.Module], new: dict[str, nn.Module]) -> str:
    """Return the warning of what the new norms lose; empty if they lose nothing."""
    dropped, fresh, bare = [], [], []
    for path in old:
        then, now = old[path], new[path]
        at = path or "the model"
        if _running(then) is not _running(now):
            dropped += [at] if _running(then) is not None else []
            fresh += [at] if _running(now) is not None else []
        if getattr(then, "weight", None) is not None and getattr(now, "weight", None) is None:
            bare.append(at)
    messages = []
    if dropped:
        messages.append(
            "running statistics are dropped, which the new norm has no use for "
            f"(at {_few(dropped)}): the network now computes something else and needs training"
        )
    if fresh:
        messages.append(
            f"new running statistics have seen no data yet, mean 0 and variance 1 (at "
            f"{_few(fresh)}): train, or run batches in training mode, before eval()"
        )
    if bare:
        messages.append(f"gains and biases are dropped (at {_few(bare)})")
    return "; ".join(messages)


def _few(paths: list[str]) -> str:
    shown = ", ".join(paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def _base(norm: nn.Module) -> type:
    found = base_of(norm, SOURCES)
    assert found is not None
    return found


def _running(norm: nn.Module) -> Tensor | None:
    found: Tensor | None = getattr(norm, "running_mean", None)
    return found


def _channels(norm: Any) -> int:
    channels: int = norm.num_features if hasattr(norm, "num_features") else norm.num_channels
    return channels


def _dims(old: nn.Module, shapes: list[Shape]) -> int:
    """Return the number of axes of positions in the input of a norm."""
    dims = SOURCES[_base(old)]
    if dims:
        return dims
    seen = {len(shape) - 2 for shape in shapes}
    if len(seen) != 1:
        what = "several kinds of input reach it" if seen else "it takes any number of axes"
        raise ValueError(
            f"{what}, but the new norm takes one: give example=x, an input of the model, to show it"
        )
    if not seen <= {0, 1, 2, 3}:
        raise ValueError(
            f'x {shapes[0]} has more axes of positions than a volume: only to="group" takes them'
        )
    if seen == {1} and getattr(old, "layout", "NCT") == "NTC":
        raise ValueError(
            f"x {shapes[0]} is a sequence (N, T, C), and the new norm would take (N, C, L): write "
            'to="group", or a norm of sequences by hand (seqnorm.InstanceNorm, BatchNorm)'
        )
    return seen.pop()


def _check_positions(old: nn.Module, shapes: list[Shape]) -> None:
    """Raise ValueError where a channel of an example has, or may have, a single position."""
    alone = [shape for shape in shapes if _positions(old, shape) == 1]
    if alone:
        raise ValueError(
            f"x {alone[0]} has one position per channel, and a set of one element is always "
            'normalised to 0: leave this one out with exclude=..., or write to="group"'
        )
    if SOURCES[_base(old)] == 1 and isinstance(old, OF_BATCH) and not shapes:
        raise ValueError(
            "its input may be (N, C), with one element in every set of InstanceNorm: give "
            "example=x, an input of the model, to show its shape"
        )


def _positions(old: nn.Module, shape: Shape) -> int:
    """Return the number of positions of x (N, C, *), or of InstanceNorm (C, *)."""
    if isinstance(old, OF_INSTANCE):
        return math.prod(shape[-SOURCES[_base(old)] :])
    if getattr(old, "layout", "NCT") == "NTC" and len(shape) == 3:
        return shape[1]
    return math.prod(shape[2:])
