"""Names of the tensors of a whole layer in another library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..nn.layers.cell import RecurrentCell
from ..nn.layers.layer import RecurrentLayer
from .given import NUMBERED, Given
from .layout import Layout, Source
from .parameters import Parameters, Recurrent
from .parts import Part


@dataclass(frozen=True)
class Slot:
    """One tensor of the original, and the place where it belongs.

    Attributes:
        name: its whole name.
        part: how it is made of our parameters.
        direction: the number of our direction.
        step: the time step of running statistics.
    """

    name: str
    part: Part
    direction: int
    step: int = 0


@dataclass(frozen=True)
class Form:
    """A layout, and a form of the whole names for a layer of a certain size."""

    source: Source
    layout: Layout
    place: str
    owners: tuple[Parameters, ...]
    directions: int

    def whole(self, name: str, number: int) -> str:
        """Return the whole name of a tensor of one direction."""
        return self.place.format(
            name=name,
            layer=number // self.directions,
            direction=self.source.directions[number % self.directions],
            index=number,
        )

    def parts(self) -> Iterator[tuple[int, str, Part]]:
        """Yield the number of a direction, a name within it, and its part, in order."""
        for number, own in enumerate(self.owners):
            for name, part in self.layout.tensors.items():
                # A layer without biases has no such parameter.
                if any(of in own.values for of in part.of):
                    yield number, name, part

    def slots(self, steps: int) -> list[Slot]:
        """Return a slot for every tensor, in the order of the original."""
        return [
            Slot(self.whole(name.format(step=step), number), part, number, step)
            for number, name, part in self.parts()
            for step in range(steps if "{step}" in name else 1)
        ]

    def ignored(self) -> set[str]:
        """Return the names that belong to no weight."""
        numbers = range(len(self.owners))
        return {self.whole(name, number) for name in self.layout.ignored for number in numbers}

    def steps_in(self, names: Iterable[str]) -> int:
        """Return the number of time steps for which there are names, at least 1."""
        found = [0]
        for number, name, _ in self.parts():
            if "{step}" in name:
                start, end = self.whole(name, number).split("{step}")
                form = re.compile(f"{re.escape(start)}([0-9]+){re.escape(end)}")
                found += [int(match[1]) for match in map(form.fullmatch, names) if match]
        return max(found) + 1

    def distance(self, given: Given) -> int:
        """Return how many names are missing or left over."""
        names = {slot.name for slot in self.slots(self.steps_in(given.arrays))}
        return len(names ^ (given.arrays.keys() - self.ignored()))


def forms(
    source: Source,
    layouts: Iterable[Layout],
    layer: Recurrent,
    owners: list[Parameters],
    *,
    numbered: bool = False,
) -> list[Form]:
    """Return the forms of names that a layer of this size can have, the usual one first.

    Args:
        numbered: true if each direction has names of its own, which begin with its number.

    Raises:
        ValueError: the original has one layer in one direction, and this layer has more.
    """
    layers = layer.suffixes if isinstance(layer, RecurrentLayer) else [[""]]
    both = len(layers[0]) > 1
    found = []
    for layout in layouts:
        places = [NUMBERED + "{name}"] if numbered else list(layout.places)
        if isinstance(layer, RecurrentCell):
            places.sort(key=lambda place: place != "{name}")
        for place in places:
            many = numbered or len(layers) == 1 or "{layer}" in place
            if many and (numbered or not both or layout.shared or "{direction}" in place):
                found.append(Form(source, layout, place, tuple(owners), len(layers[0])))
    if not found:
        size = f"{len(layers)} layer(s) in {len(layers[0])} direction(s)"
        raise ValueError(
            f"{source.title} has no names for {size}: load_weights takes a list of mappings, one "
            "for each layer and direction, and to_weights a layer of one direction"
        )
    return found
