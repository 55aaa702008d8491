"""What a set S is, in words, as a mask and as a picture: three views of the same few fields.

Axes: N examples, C channels, L or D, H, W positions; of a recurrent layer T time steps, B
sequences, F units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd

import torch
from torch import Tensor

from ..statistics.masks import check_lengths, valid_mask
from .drawing import draw
from .picture import panel

BATCH = ("N", "B")
CHANNELS = ("C", "F")
POSITIONS = ("L", "D", "H", "W")
TENSORS = {  # what the norm at a site gets
    "input": "W_ih x_t",
    "hidden": "W_hh h_(t-1)",
    "sum": "W_ih x_t + W_hh h_(t-1)",
    "candidate": "the candidate's sum",
    "cell": "c_t",
    "frame": "x_t",
    "output": "h_t",
}


@dataclass(frozen=True)
class StatisticsSet:
    """The set S of elements that share a mean and a variance: words, mask and picture of it.

    ``print(s)`` says it in words, ``s.mask(...)`` which elements they are, ``s.svg()`` draws them;
    a notebook shows the picture by itself. ``statistics_set(layer)`` makes one.

    Args:
        name: of the layer.
        axes: of the normalised tensor, in order, as letters: N (or B) examples, C (or F) channels,
            T time steps, L, D, H, W positions.
        spans: axes along which S holds every element.
        groups: numbers of channels of the sets into which the channel axis is divided; empty if S
            spans it or holds one channel.
        channels: how many channels the layer has.
        running: whether inference takes mean and variance from running statistics.
        per_step: whether these are apart for every time step.
        centred: whether the mean is subtracted.
        gates: letters of the gates that lie one after the other along F; empty without gates.
        remark: what else there is to say, as a sentence.

    Raises:
        ValueError: axes that no norm has, ``spans`` that are none of them, or groups of channels
            that S spans.
    """

    name: str
    axes: tuple[str, ...]
    spans: tuple[str, ...]
    groups: tuple[int, ...] = ()
    channels: int = 0
    running: bool = False
    per_step: bool = False
    centred: bool = True
    gates: str = ""
    remark: str = ""

    def __post_init__(self) -> None:
        rest = [axis for axis in self.axes if axis not in (*BATCH, *CHANNELS)]
        one_each = all(sum(a in kind for a in self.axes) == 1 for kind in (BATCH, CHANNELS))
        known = rest == ["T"] or tuple(rest) in (("L",), ("H", "W"), ("D", "H", "W"))
        if not (one_each and known) or not set(self.spans) <= set(self.axes):
            raise ValueError(
                "axes are N or B, C or F, and T, or L, or (D,) H, W; spans some of them: got "
                f"axes={self.axes!r}, spans={self.spans!r}"
            )
        if self.groups and self.channel_axis in self.spans:
            raise ValueError(
                f"groups={self.groups!r} divide {self.channel_axis}, which S spans: leave one out"
            )

    @property
    def divided(self) -> tuple[str, ...]:
        """The axes of which S holds one of several parts: that of the channels, or none."""
        return (self.channel_axis,) if self.groups else ()

    @property
    def spans_batch(self) -> bool:
        """Whether S reaches across the examples of a mini-batch."""
        return self.batch_axis in self.spans

    @property
    def batch_axis(self) -> str:
        """The letter of the examples, N or B."""
        return next(axis for axis in self.axes if axis in BATCH)

    @property
    def channel_axis(self) -> str:
        """The letter of the channels, C or F."""
        return next(axis for axis in self.axes if axis in CHANNELS)

    @property
    def example(self) -> str:
        """What one entry of the batch axis is: "sequence" or "example"."""
        return "sequence" if "T" in self.axes else "example"

    def mask(
        self,
        shape: Sequence[int],
        element: Sequence[int],
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Boolean tensor of ``shape``: true at the elements whose mean ``element`` shares.

        Args:
            shape: size of every one of ``axes``; the number of channels may be smaller than the
                layer's if its groups keep their proportions.
            element: an index into every axis.
            lengths: of the sequences, where there is a time axis; padding is in no set.

        Raises:
            ValueError: shape or element do not fit ``axes``, the channels cannot be divided into
                the groups, lengths are given without a time axis, or the element is padding.
            TypeError: lengths are not integers.
        """
        if len(shape) != len(self.axes) or len(element) != len(self.axes):
            raise ValueError(
                f"{self.name} has the axes ({', '.join(self.axes)}): give a size and an index for "
                f"each, got shape {tuple(shape)} and element {tuple(element)}"
            )
        if not all(0 <= index < size for index, size in zip(element, shape)):
            raise ValueError(f"element {tuple(element)} lies outside of shape {tuple(shape)}")
        same = self.valid(shape, lengths)
        if not same[tuple(element)]:
            raise ValueError(
                f"element {tuple(element)} is padding, which is in no set: choose a time step "
                "below the sequence's length"
            )
        for dim, (axis, size) in enumerate(zip(self.axes, shape)):
            if axis in self.spans:
                continue
            label = torch.arange(size)
            if axis in self.divided:
                parts = torch.tensor(self._scaled(size))
                label = torch.arange(len(parts)).repeat_interleave(parts)
            own = label == label[element[dim]]
            same = same & _along(own, dim, len(shape))
        return same

    def valid(self, shape: Sequence[int], lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Boolean tensor of ``shape``: false in the padding; see ``mask``."""
        whole = torch.ones(tuple(shape), dtype=torch.bool)
        if lengths is None:
            return whole
        if "T" not in self.axes:
            raise ValueError(
                f"{self.name} has the axes ({', '.join(self.axes)}) and knows no lengths: leave "
                "lengths out"
            )
        batch, time = self.axes.index(self.batch_axis), self.axes.index("T")
        alive = valid_mask(check_lengths(lengths, shape[batch], shape[time]).cpu(), shape[time])
        if time < batch:
            alive = alive.T
        first, second = sorted((batch, time))
        for dim in range(len(shape)):
            if dim not in (first, second):
                alive = alive.unsqueeze(dim)
        return whole & alive

    def _scaled(self, channels: int) -> list[int]:
        """The groups of a tensor with that many channels."""
        total, unit = sum(self.groups), gcd(*self.groups)
        least = total // unit
        if channels % least:
            raise ValueError(
                f"{self.name} divides its channels into {len(self.groups)} groups, which "
                f"{channels} channels cannot keep: give a multiple of {least}"
            )
        return [size // unit * (channels // least) for size in self.groups]

    @cached_property
    def words(self) -> str:
        """S in words: "one channel, all examples of the mini-batch, all positions"."""
        parts = [self._channel_words(), self._batch_words()]
        if any(axis in POSITIONS for axis in self.axes):
            spans = any(axis in POSITIONS for axis in self.spans)
            parts.append("all positions" if spans else "one position")
        if "T" in self.axes:
            parts.append("all time steps" if "T" in self.spans else "one time step")
        return ", ".join(parts)

    def _batch_words(self) -> str:
        if not self.spans_batch:
            return f"one {self.example}"
        running = " that reach this step" if "T" in self.axes and "T" not in self.spans else ""
        return f"all {self.example}s of the mini-batch{running}"

    def _channel_words(self) -> str:
        unit = "unit" if self.channel_axis == "F" else "channel"
        if self.channel_axis in self.spans:
            return f"all {unit}s" + (f" of the gates {_listed(self.gates)}" if self.gates else "")
        if not self.groups:
            return f"one {unit}"
        named = self.gates_of_groups
        if named:
            one = "gate" if all(len(part) == 1 for part in named) else "set of gates"
            return f"all {unit}s of one {one} ({_listed(named, 'or')})"
        sizes = sorted(set(self.groups))
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        return f"the {size} {unit}s of one of {len(self.groups)} groups"

    @property
    def gates_of_groups(self) -> list[str]:
        """The gates of every set; empty if a gate is divided, or there are none."""
        named: list[str] = []
        start = 0
        for size in self.groups:
            share, rest = divmod(size * len(self.gates), sum(self.groups))
            if rest or not share:
                return []
            named.append(self.gates[start : start + share])
            start += share
        return named

    @property
    def consequence(self) -> str:
        """What follows from S for the batch and for inference, in a few words."""
        one = self.example
        if self.spans_batch and self.running:
            each = " of each time step" if self.per_step else ""
            return f"Spans the batch, hence running statistics{each}."
        if self.spans_batch:
            return f"Spans the batch: the other {one}s matter, in inference too."
        if self.running:
            return f"Inside one {one}, and yet running statistics in inference."
        return f"Inside one {one}: no other {one} matters, no running statistics."

    def __str__(self) -> str:
        one = self.example
        follows = (
            f"Stays inside one {one}: an answer does not depend on the other {one}s, training and "
            "inference compute the same, and there are no running statistics."
        )
        if self.spans_batch and self.running:
            each = ", with those of each time step apart" if self.per_step else ""
            follows = (
                f"Spans the batch: an answer in training depends on the other {one}s of the "
                f"mini-batch, and inference takes running statistics instead{each}."
            )
        elif self.spans_batch:
            follows = (
                f"Spans the batch: an answer depends on the other {one}s of the mini-batch, in "
                "inference too, for there are no running statistics."
            )
        elif self.running:
            follows = (
                f"Stays inside one {one} in training; inference takes running statistics all the "
                "same, so the two compute different things."
            )
        sentences = [f"{self.name}, x ({', '.join(self.axes)}): {self.words}.", follows]
        if not self.centred:
            sentences.append("The mean is not subtracted: what S shares is the mean square.")
        return " ".join([*sentences, self.remark] if self.remark else sentences)

    def svg(
        self,
        *,
        lengths: Sequence[int] | None = None,
        examples: int | None = None,
        channels: int | None = None,
        positions: int | None = None,
    ) -> str:
        """A picture of S in a small block: its elements dark, those of other sets pale.

        Args:
            lengths: of the sequences drawn, (5, 3, 2) if None; only with a time axis.
            examples: how many are drawn, 3 if None; with a time axis ``lengths`` says it.
            channels: how many are drawn; few if None.
            positions: length of each side of the plane, 3 if None; without a time axis.

        Returns:
            The text of an SVG image, for a file or to stand in HTML as it is.

        Raises:
            ValueError: a size is not positive, does not belong to this norm, or the channels
                cannot be divided into its groups.
        """
        shown = panel(self, lengths, examples, channels, positions)
        return draw(self.name, f"x ({', '.join(self.axes)})", [shown], str(self))

    def _repr_svg_(self) -> str:
        return self.svg()


@dataclass(frozen=True)
class SiteSets(Mapping[str, StatisticsSet]):
    """The sets of a recurrent layer, by the site at which each norm stands.

    A mapping: ``sets["hidden"]`` is a ``StatisticsSet`` of a tensor (T, B, F), T counted in the
    direction of travel, as ``NormScheme`` names the sites; GRU's "candidate" is the second part of
    a norm of the sum.

    Args:
        name: of the layer.
        sites: the sets by site.
    """

    name: str
    sites: tuple[tuple[str, StatisticsSet], ...]

    def __getitem__(self, site: str) -> StatisticsSet:
        return dict(self.sites)[site]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.sites))

    def __len__(self) -> int:
        return len(self.sites)

    def __str__(self) -> str:
        return "\n".join(str(of_site) for of_site in self.values())

    def svg(self, *, lengths: Sequence[int] | None = None) -> str:
        """One picture for all sites; sites with equal sets share a panel. See ``StatisticsSet``."""
        places: dict[StatisticsSet, list[str]] = {}
        for site, of_site in self.sites:
            places.setdefault(replace(of_site, name=self.name), []).append(site)
        panels = [
            replace(
                panel(of_sites, lengths, None, None, None),
                heading="; ".join(f"{site}: {TENSORS[site]}" for site in sites),
            )
            for of_sites, sites in places.items()
        ]
        return draw(f"{self.name}: sets of its norms", "x (T, B, F)", panels, str(self))

    def _repr_svg_(self) -> str:
        return self.svg()


def _along(values: Tensor, dim: int, dims: int) -> Tensor:
    """A vector as a tensor that broadcasts along one axis."""
    return values.view([-1 if d == dim else 1 for d in range(dims)])


def _listed(words: Sequence[str], last: str = "and") -> str:
    """ "i, f, g and o"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
