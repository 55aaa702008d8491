"""The sets S of a norm that mixes the statistics of several, in words, as a mask and as a picture.

Axes as in ``description``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .description import StatisticsSet
from .drawing import draw
from .picture import panel

NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class MixedSets(Mapping[str, StatisticsSet]):
    """A mapping from the parts of a mixing norm, such as "batch" and "instance", to their sets.

    No single set describes such a norm. ``print(sets)`` names all that it mixes,
    ``sets["instance"]`` is the ``StatisticsSet`` of one, and ``sets.svg()``, or a notebook, draws a
    panel for each.

    Args:
        name: name of the layer.
        parts: pairs of a part's name and its set; the sets have the same axes.
        mixture: a sentence about the shares in which they are mixed.
    """

    name: str
    parts: tuple[tuple[str, StatisticsSet], ...]
    mixture: str

    def __getitem__(self, part: str) -> StatisticsSet:
        return dict(self.parts)[part]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.parts))

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def words(self) -> str:
        """All sets in words, such as "batch: one channel, all examples ...; instance: ..."."""
        return "; ".join(f"{part}: {of.words}" for part, of in self.items())

    def mask(self, shape: Sequence[int], element: Sequence[int]) -> Tensor:
        """Return a boolean tensor of ``shape``, true at the elements of any set of ``element``.

        These are the elements on which its answer in training depends. Arguments and errors are
        those of ``StatisticsSet.mask``.
        """
        first, *others = (of.mask(shape, element) for of in self.values())
        for mask in others:
            first = first | mask
        return first

    def __str__(self) -> str:
        first, *_ = self.values()
        sentences = [
            f"{self.name}, x ({', '.join(first.axes)}): a mixture of "
            f"{NUMBERS[len(self)]} sets, {self.words}.",
            self.mixture,
        ]
        for of in self.values():
            if of.spans_batch:
                # The sentences on the batch, which hold for the whole mixture.
                sentences.append(of.consequences[1])
                sentences += [of.remark] if of.remark else []
        sentences.append("The other statistics are the example's own, in inference too.")
        return " ".join(sentences)

    def svg(
        self,
        *,
        examples: int | None = None,
        channels: int | None = None,
        positions: int | None = None,
    ) -> str:
        """Draw all sets, one below the other, as ``StatisticsSet.svg`` does with one."""
        panels = []
        for part, of in self.items():
            shown = replace(panel(of, None, examples, channels, positions), heading=part)
            if not of.spans_batch:  # "no other example matters" does not hold for the mixture
                shown = replace(shown, consequence="Inside one example, in inference too.")
            panels.append(shown)
        panels[-1] = replace(panels[-1], note=f"{panels[-1].note} {self.mixture}".strip())
        first, *_ = self.values()
        return draw(self.name, f"x ({', '.join(first.axes)})", panels, str(self))

    def _repr_svg_(self) -> str:
        return self.svg()
