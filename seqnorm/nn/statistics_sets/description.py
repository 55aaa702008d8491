"""A set S in words, as a mask and as a picture.

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
from ..statistics.moments import units_of_part
from .drawing import draw
from .picture import panel

BATCH = ("N", "B")
CHANNELS = ("C", "F")
TENSORS = {  # by site, the input of its norm
    "input": "W_ih x_t",
    "hidden": "W_hh h_(t-1)",
    "sum": "W_ih x_t + W_hh h_(t-1)",
    "candidate": "the candidate's sum",
    "cell": "c_t",
    "frame": "x_t",
    "output": "h_t",
}
# By (S spans the batch, there are running statistics): what follows, in short and in full.
CONSEQUENCES = {
    (True, True): (
        "Spans the batch, hence running statistics{short}.",
        "Spans the batch: an answer in training depends on the other {one}s of the mini-batch, and "
        "inference takes running statistics instead{full}.",
    ),
    (True, False): (
        "Spans the batch: the other {one}s matter, in inference too.",
        "Spans the batch: an answer depends on the other {one}s of the mini-batch, in inference "
        "too, for there are no running statistics.",
    ),
    (False, True): (
        "Inside one {one}, and yet running statistics in inference.",
        "Stays inside one {one} in training; inference takes running statistics all the same, so "
        "the two compute different things.",
    ),
    (False, False): (
        "Inside one {one}: no other {one} matters, no running statistics.",
        "Stays inside one {one}: an answer does not depend on the other {one}s, training and "
        "inference compute the same, and there are no running statistics.",
    ),
}
# The same if S is empty.
OF_NOTHING = (
    "No statistics: no other element matters.",
    "Takes no statistics, neither within one {one} nor across {one}s: an answer depends on its own "
    "element alone, and training and inference compute the same.",
)


@dataclass(frozen=True)
class StatisticsSet:
    """The set S of elements that share a mean and a variance, as ``statistics_set`` returns it.

    ``print(s)`` describes S in words, ``s.mask(...)`` marks its elements and ``s.svg()``, or a
    notebook, draws them.

    Args:
        name: name of the layer.
        axes: letters of the axes of the normalised tensor, in order: N (or B) examples, C (or F)
            channels, T time steps, L, D, H, W positions.
        spans: axes along which S contains every element.
        groups: numbers of channels of the sets into which the channel axis is divided; empty if S
            spans that axis or contains one channel.
        channels: number of channels of the layer.
        running: true if inference uses running statistics.
        per_step: true if every time step has its own running statistics.
        centred: true if the mean is subtracted.
        gates: letters of the gates along F, in order; empty without gates.
        remark: a further sentence.
        empty: true if S has no elements, because the layer takes no statistics.
        part: for partial RMSNorm, the part of the channels, counted from the first one of a set,
            that is S; the others are divided by the mean square of S too.
        window: number of time steps in S, the one of the element and those before it.

    Raises:
        ValueError: no norm has these ``axes``; ``spans`` has others; ``groups`` divide channels
            that S spans; there is a ``window`` without a time axis, or S spans time; or S is
            ``empty`` and yet has spans, groups, a window, a mean or running statistics.
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
    empty: bool = False
    part: float | None = None
    window: int = 1

    def __post_init__(self) -> None:
        rest = [axis for axis in self.axes if axis not in (*BATCH, *CHANNELS)]
        one_each = all(sum(a in kind for a in self.axes) == 1 for kind in (BATCH, CHANNELS))
        known = rest == ["T"] or tuple(rest) in (("L",), ("H", "W"), ("D", "H", "W"))
        if not (one_each and known) or not set(self.spans) <= set(self.axes):
            raise ValueError(
                "axes are N or B, C or F, and T, or L, or (D,) H, W, and spans are among them: got "
                f"axes={self.axes!r}, spans={self.spans!r}"
            )
        if self.groups and self.channel_axis in self.spans:
            raise ValueError(
                f"groups={self.groups!r} divide {self.channel_axis}, which S spans: leave one out"
            )
        if self.window > 1 and ("T" not in self.axes or "T" in self.spans):
            raise ValueError(
                f"window={self.window} counts steps of a time axis that S does not span: got "
                f"axes={self.axes!r}, spans={self.spans!r}"
            )
        has_elements = self.spans or self.groups or self.window > 1
        if self.empty and (has_elements or self.running or self.centred):
            raise ValueError(
                "an empty S has no spans, groups, window, mean or running statistics: write "
                "spans=(), centred=False and leave the others out"
            )

    @property
    def spans_batch(self) -> bool:
        """True if S contains elements of all examples of a mini-batch."""
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
        """The word for an entry of the batch axis, "sequence" or "example"."""
        return "sequence" if "T" in self.axes else "example"

    @property
    def unit(self) -> str:
        """The word for an entry of the channel axis, "unit" or "channel"."""
        return "unit" if self.channel_axis == "F" else "channel"

    def mask(
        self,
        shape: Sequence[int],
        element: Sequence[int],
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """Return a boolean tensor of ``shape``, true at the elements of the set of ``element``.

        It is false everywhere if S is empty. If S is a part of some channels, their other elements
        have the same S, to which they do not belong.

        Args:
            shape: size of each of ``axes``; the number of channels may differ from the layer's if
                the groups keep their proportions.
            element: an index into each axis.
            lengths: lengths of the sequences, if there is a time axis; padding is in no set.

        Raises:
            ValueError: ``shape`` or ``element`` does not fit ``axes``; the channels cannot be
                divided into the groups; there are ``lengths`` but no time axis; or the element is
                padding.
            TypeError: ``lengths`` are not integers.
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
        if self.empty:
            return torch.zeros_like(same)
        for dim, (axis, size) in enumerate(zip(self.axes, shape)):
            if axis in self.spans:
                continue
            label = torch.arange(size)
            if self.groups and axis == self.channel_axis:
                parts = torch.tensor(self._scaled(size))
                label = torch.arange(len(parts)).repeat_interleave(parts)
            own = label == label[element[dim]]
            if axis == "T":
                own = (label > element[dim] - self.window) & (label <= element[dim])
            same = same & own.view([-1 if d == dim else 1 for d in range(len(shape))])
        return same if self.part is None else self._first(same, self.part)

    def _first(self, same: Tensor, part: float) -> Tensor:
        """Return a mask of the first part of the channels in a mask of all."""
        dim = self.axes.index(self.channel_axis)
        own = same.movedim(dim, 0).flatten(1).any(1)
        first = own.cumsum(0) <= units_of_part(part, int(own.sum()))
        return same & first.view([-1 if d == dim else 1 for d in range(same.dim())])

    def valid(self, shape: Sequence[int], lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return a boolean tensor of ``shape``, false in the padding; see ``mask``."""
        whole = torch.ones(tuple(shape), dtype=torch.bool)
        if lengths is None:
            return whole
        if "T" not in self.axes:
            raise ValueError(
                f"{self.name} has the axes ({', '.join(self.axes)}) and no time axis: leave "
                "lengths out"
            )
        batch, time = self.axes.index(self.batch_axis), self.axes.index("T")
        alive = valid_mask(check_lengths(lengths, shape[batch], shape[time]).cpu(), shape[time])
        if time < batch:
            alive = alive.T
        return whole & alive.unsqueeze(self.axes.index(self.channel_axis))

    def _scaled(self, channels: int) -> list[int]:
        """Return the groups of a tensor with this number of channels."""
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
        """The set S in words, such as "one channel, one example, all positions"."""
        if self.empty:
            return "the empty set"
        timed = "T" in self.axes
        along = "time step" if timed else "position"
        over_time = any(axis not in (*BATCH, *CHANNELS) for axis in self.spans)
        place = f"all {along}s" if over_time else f"one {along}"
        if self.window > 1:
            earlier = f"the {self.window - 1} steps" if self.window > 2 else "the step"
            place = f"one time step and {earlier} before it"
        batch = f"one {self.example}"
        if self.spans_batch:
            reached = " that reach this step" if timed and not over_time else ""
            batch = f"all {self.example}s of the mini-batch{reached}"
        return f"{self._channel_words()}, {batch}, {place}"

    def _channel_words(self) -> str:
        unit = self.unit
        if self.part is not None:
            return f"the first {100 * self.part:g} % of {replace(self, part=None)._channel_words()}"
        if self.channel_axis in self.spans:
            return f"all {unit}s" + (f" of the gates {_listed(self.gates)}" if self.gates else "")
        if not self.groups:
            return f"one {unit}"
        named = self.gates_of_groups
        if named:
            one = "gate" if all(len(part) == 1 for part in named) else "set of gates"
            return f"all {unit}s of one {one} ({_listed(named, 'or')})"
        least, most = min(self.groups), max(self.groups)
        size = f"{least}" if least == most else f"{least} to {most}"
        return f"the {size} {unit}s of one of {len(self.groups)} groups"

    @property
    def gates_of_groups(self) -> list[str]:
        """The gates of every set; empty if a gate is divided, or without gates."""
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
        """The consequence of S for the batch and for inference, in a few words."""
        return self.consequences[0]

    @property
    def consequences(self) -> list[str]:
        """The consequence of S in a few words, and in a whole sentence."""
        short = " of each time step" if self.per_step else ""
        full = ", with those of each time step apart" if self.per_step else ""
        texts = OF_NOTHING if self.empty else CONSEQUENCES[self.spans_batch, self.running]
        return [text.format(one=self.example, short=short, full=full) for text in texts]

    def __str__(self) -> str:
        sentences = [f"{self.name}, x ({', '.join(self.axes)}): {self.words}."]
        sentences.append(self.consequences[1])
        if not self.centred and not self.empty:
            sentences.append("The mean is not subtracted: what S shares is the mean square.")
        return " ".join(filter(None, (*sentences, self.beyond, self.remark)))

    @property
    def beyond(self) -> str:
        """Sentences on the elements outside of S that take its statistics or are missing; or ""."""
        found = []
        if self.part is not None:
            found.append(f"The {self.unit}s after this part are divided by the same mean square.")
        if self.window > 1:
            found.append("At the beginning of a sequence there are fewer steps.")
        return " ".join(found)

    def svg(
        self,
        *,
        lengths: Sequence[int] | None = None,
        examples: int | None = None,
        channels: int | None = None,
        positions: int | None = None,
    ) -> str:
        """Draw S in a small block, its elements dark and those of other sets pale.

        Args:
            lengths: lengths of the sequences, (5, 3, 2) by default; only with a time axis.
            examples: number of examples, 3 by default; only without a time axis.
            channels: number of channels; few by default.
            positions: length of each side of a plane, 3 by default; only without a time axis.

        Returns:
            The text of an SVG image, which can be a file or part of HTML.

        Raises:
            ValueError: a size is not positive or does not belong to this norm, or the channels
                cannot be divided into its groups.
        """
        shown = panel(self, lengths, examples, channels, positions)
        return draw(self.name, f"x ({', '.join(self.axes)})", [shown], str(self))

    def _repr_svg_(self) -> str:
        return self.svg()


@dataclass(frozen=True)
class SiteSets(Mapping[str, StatisticsSet]):
    """A mapping from the sites of a recurrent layer, as ``NormScheme`` names them, to their sets.

    ``sets["hidden"]`` is the ``StatisticsSet`` of a tensor (T, B, F), where T counts in the
    direction of travel. GRU's "candidate" is the second part of a norm of the sum.

    Args:
        name: name of the layer.
        sites: pairs of a site and its set.
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
        """Draw all sites, as ``StatisticsSet.svg`` does; sites with equal sets share a panel."""
        places: dict[StatisticsSet, list[str]] = {}
        for site, of_site in self.sites:
            places.setdefault(replace(of_site, name=self.name), []).append(site)
        panels = []
        for of_sites, sites in places.items():
            heading = "; ".join(f"{site}: {TENSORS[site]}" for site in sites)
            panels.append(replace(panel(of_sites, lengths), heading=heading))
        return draw(f"{self.name}: sets of its norms", "x (T, B, F)", panels, str(self))

    def _repr_svg_(self) -> str:
        return self.svg()


def _listed(words: Sequence[str], last: str = "and") -> str:
    """Join words, as "i, f, g and o"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
