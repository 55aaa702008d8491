"""Fields of ``Norm`` that only some kinds have."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ..check import check_number, check_part

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
}


def fields_without(kind: str) -> set[str]:
    """Return the fields that a kind lacks, beside those of running statistics."""
    return {name for name, (kinds, _) in OF_SOME_KINDS.items() if kind not in kinds}


def check_own_fields(norm: Norm) -> None:
    """Check the fields of some kinds.

    Raises:
        TypeError, ValueError: a field is invalid, or differs from its default in another kind.
    """
    check_number("alpha", norm.alpha)
    check_number("shift", norm.shift)
    check_part(norm.part)
    defaults = {field.name: field.default for field in fields(norm)}
    for name in sorted(fields_without(norm.kind)):
        if getattr(norm, name) != defaults[name]:
            kinds, meaning = OF_SOME_KINDS[name]
            known = " and ".join(repr(kind) for kind in kinds)
            raise ValueError(
                f"{name} {meaning} and belongs to {known}, not to {norm.kind!r}: leave it out"
            )
