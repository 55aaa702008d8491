"""Tables of other libraries' weights: a ``Source`` has a ``Layout`` for each cell and norm."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from ..nn.check import choose
from ..nn.layers.layer import RecurrentLayer
from ..nn.recurrence.presets import described, preset
from ..nn.recurrence.scheme import TABLE_FIELDS, Norm, NormScheme
from . import sources
from .parameters import Recurrent
from .parts import Part


@dataclass(frozen=True)
class Layout:
    """The tensors of one cell of an original.

    Args:
        cell: the name of our layer.
        norm: our norm that computes the same: ``None``, a preset or a scheme. Initial values and
            options of running statistics do not matter.
        gates: our letters of the gates in the order in which the original stacks them.
        tensors: each tensor of the original by its name within one layer and direction. A name with
            "{step}" stands for one tensor for each time step.
        places: forms of the whole name, with "{name}", "{layer}" and "{direction}", the usual one
            first. A place without "{layer}" is for one layer, and one without "{direction}" for one
            direction.
        merged: gates for which ``to_weights`` adds bias_hh to bias_ih, because the original has one
            bias there.
        ignored: names within one layer that belong to no weight.
        eps_is_free: true if eps is an option of the original, so that ours may have any.
        holds_h: true if the zoneout of the original holds back h alone.
        nonlinearity: the only nonlinearity of the original, "" if it has a choice.
        shared: true if both directions have the same weights in the original.
        note: a hint for the error of a tensor that does not fit.
    """

    cell: str
    norm: str | NormScheme | None
    gates: str
    tensors: Mapping[str, Part]
    places: tuple[str, ...] = ("{name}",)
    merged: str = ""
    ignored: tuple[str, ...] = ()
    eps_is_free: bool = False
    holds_h: bool = False
    nonlinearity: str = ""
    shared: bool = False
    note: str = ""

    @property
    def learns_states(self) -> bool:
        """True if the initial state is among the weights."""
        return any("h_0" in part.of for part in self.tensors.values())

    @property
    def scheme(self) -> NormScheme | None:
        """The scheme of our layer."""
        return preset(self.norm, self.cell) if isinstance(self.norm, str) else self.norm

    def computes_like(self, scheme: NormScheme | None) -> bool:
        """Return whether a layer with this scheme computes the same from the same weights."""
        own = _computed(self.scheme, self.eps_is_free)
        return own == _computed(scheme, self.eps_is_free)


@dataclass(frozen=True)
class Source:
    """Another library.

    Args:
        title: the library and its modules in words.
        layouts: the cells; of several that fit a layer, the first is the usual one.
        directions: the words for forwards and backwards in the names.
        clean: changes a given name into the form of the tables.
        ordered: true if the weights may come as a list, in the order of the tables.
    """

    title: str
    layouts: tuple[Layout, ...]
    directions: tuple[str, str] = ("", "")
    clean: Callable[[str], str] = str
    ordered: bool = False

    def layouts_for(self, module: Recurrent, name: str) -> list[Layout]:
        """Return the layouts for a layer or cell of ours.

        Args:
            name: the name of the source, for the error.

        Raises:
            ValueError: the layer has another step, norm or nonlinearity than the source, heads or
                learned states that the source does not have, or a zoneout with another meaning.
        """
        step = module.step
        of_cell = [layout for layout in self.layouts if layout.cell == step.name]
        if not of_cell:
            cells = ", ".join(dict.fromkeys(layout.cell for layout in self.layouts))
            raise ValueError(f"source {name!r} has weights for {cells}, and this is a {step.name}")
        found = [layout for layout in of_cell if layout.computes_like(module.norm)]
        if not found:
            own = "None" if module.norm is None else described(module.norm, step)
            norms = list(dict.fromkeys(repr(layout.norm) for layout in of_cell))
            raise ValueError(
                f"weights of {name!r} do not belong into {step.name} with norm={own}: build it "
                f"with norm={' or norm='.join(norms)}"
            )
        views = {part.view for layout in found for part in layout.tensors.values()}
        if step.heads and "heads_first" not in views:
            raise ValueError(
                f"W_hh of {name!r} has no blocks, and this {step.name} has heads={step.heads}: "
                "build it with heads=1"
            )
        if module.learn_initial_state and not any(layout.learns_states for layout in found):
            raise ValueError(
                f"sequences of this {step.name} begin with learned states, and those of {name!r} "
                "with zeros: build it with learn_initial_state=False"
            )
        wanted = {layout.nonlinearity for layout in found} - {""}
        if wanted and getattr(step, "nonlinearity", "") not in wanted:
            raise ValueError(
                f"{step.name} of {name!r} has another nonlinearity: build the layer with "
                f"nonlinearity={' or '.join(map(repr, sorted(wanted)))}"
            )
        zoneout = module.zoneout if isinstance(module, RecurrentLayer) else ()
        if any(layout.holds_h for layout in found) and any(zoneout[1:]):
            raise ValueError(
                f"zoneout of {name!r} holds back h alone, and zoneout={zoneout} holds back the "
                f"other parts of the state too: build the layer with zoneout=({zoneout[0]}, 0)"
            )
        return found


def names_of_sources() -> list[str]:
    """Return the names of all sources, which are those of the modules in ``sources``."""
    return sorted(module.name for module in pkgutil.iter_modules(sources.__path__))


def source_named(name: str) -> Source:
    """Return a source by its name.

    Raises:
        ValueError: there is no such source.
    """
    choose("source", name, names_of_sources())
    found: Source = import_module(f"{sources.__name__}.{name}").SOURCE
    return found


def _computed(scheme: NormScheme | None, eps_is_free: bool) -> NormScheme | None:
    """Return a scheme without initial values and options of tables, which change no number."""
    if scheme is None:
        return None
    plain = Norm()
    options = {field: getattr(plain, field) for field in TABLE_FIELDS}
    if eps_is_free:
        options["eps"] = plain.eps
    changes: dict[str, Any] = {
        site: replace(
            norm,
            gain=None if norm.gain is None else plain.gain,
            bias=None if norm.bias is None else plain.bias,
            **options,
        )
        for site, norm in scheme.norms.items()
    }
    for field in ("bias_init", "gate_bias", "hidden_init"):
        changes[field] = getattr(NormScheme(), field)
    return replace(scheme, **changes)
