"""Fields of ``Norm`` that only some kinds have."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ..check import check_number, check_part, check_positive

if TYPE_CHECKING:
    from .scheme import Norm

# The kinds without statistics, as the classes ``DynamicTanh`` and ``DynamicErf`` outside.
DYNAMIC = ("dynamic_tanh", "dynamic_erf")
_OF_MOMENTS = ("layer", "rms", "batch", "batch_pooled")
# By field: the kinds that have it, and its meaning.
OF_SOME_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "eps": (_OF_MOMENTS, "is added to a variance"),
    "eps_on": (_OF_MOMENTS, "is the place of eps beside a variance"),
    "alpha": (DYNAMIC, "multiplies x before tanh or erf"),
    "part": (("rms",), "is the part of the units that give the mean square"),
    "shift": (("dynamic_erf",), "is added to x before erf"),
    "window": (("layer", "rms"), "is the number of steps in the set"),
}
_REFUSED = {
    "instance": (
        "InstanceNorm averages one channel over the positions of one example; a recurrent layer "
        "has one value there, a set of one element, whose normalised value is always 0"
    ),
    "group": (
        "GroupNorm over time would read the future; over the units of a step it is LayerNorm with "
        'smaller sets: Norm("layer", sets=4) for four groups'
    ),
}


def refuse(kind: str) -> None:
    """Raise ValueError if a kind is known and cannot stand in a recurrence."""
    if kind in _REFUSED:
        raise ValueError(f"norm {kind!r} cannot stand in a recurrence: {_REFUSED[kind]}")


def fields_without(kind: str) -> set[str]:
    """Return the fields that a kind lacks, beside those of running statistics."""
    return {name for name, (kinds, _) in OF_SOME_KINDS.items() if kind not in kinds}


def check_own_fields(norm: Norm) -> None:
    """Check the fields of some kinds; a window becomes an int.

    Raises:
        TypeError, ValueError: a field is invalid, or differs from its default in another kind.
    """
    check_number("alpha", norm.alpha)
    check_number("shift", norm.shift)
    check_part(norm.part)
    if norm.window is not None:
        object.__setattr__(norm, "window", check_positive("window", norm.window))
    defaults = {field.name: field.default for field in fields(norm)}
    for name in sorted(fields_without(norm.kind)):
        if getattr(norm, name) != defaults[name]:
            kinds, meaning = OF_SOME_KINDS[name]
            known = " and ".join(repr(kind) for kind in kinds)
            raise ValueError(
                f"{name} {meaning} and belongs to {known}, not to {norm.kind!r}: leave it out"
            )


def check_joint(norm: Norm) -> None:
    """Raise ValueError if sets divide the units of a kind whose sets hold no two of them."""
    if norm.sets == "joint" or not (norm.over_batch or norm.kind in DYNAMIC):
        return
    reason = "its set is the batch, each unit apart, however the gates are divided"
    if norm.kind in DYNAMIC:
        reason = "its set is empty, and each unit is computed by itself"
    raise ValueError(
        f'sets={norm.sets!r} means nothing for {norm.kind!r}: {reason}; leave sets="joint"'
    )
