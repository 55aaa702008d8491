"""Look-up of named schemes, which stand beside the mathematics of their cells."""

from __future__ import annotations

import re

from torch import nn

from ..check import choose, nearest
from .scheme import Norm, NormScheme, of_fields
from .step import PRESETS, STEPS, Step

# Names of other libraries, without "norm", and the names of the same norms here.
_ELSEWHERE = {
    "ln": "layer",
    "bn": "batch",
    "in": "instance",
    "gn": "group",
    "syncbatch": "batch",
    "deepspeech": "laurent2016",
    "speechbrain": "ravanelli2018",
}
# Words for kinds of norms without a preset.
_UNPUBLISHED = {
    "dynamictanh": "dynamic_tanh",
    "dyt": "dynamic_tanh",
    "dynamicerf": "dynamic_erf",
    "derf": "dynamic_erf",
}


def preset(name: str, cell: str = "LSTM", **changes: object) -> NormScheme:
    """Return the scheme of a name for a cell, with fields replaced.

    The docstring of each layer (``seqnorm.LSTM``, ``GRU``, ``RNN``, ``LiGRU``, ``IndRNN``,
    ``SLSTM``) has the equations of its presets.

    Args:
        name: a key of ``seqnorm.PRESETS``.
        cell: the name of the layer.
        changes: see ``NormScheme.replace``: ``preset("batch", "LSTM", eps=1e-3, max_steps=100)``.

    Raises:
        ValueError: ``name`` is unknown, or it is not published for this cell.
        TypeError: ``name`` is not a string, or a change names no field.
    """
    if not isinstance(name, str):
        raise TypeError(f"norm must be a name, got {name!r}")
    if name not in PRESETS:
        raise ValueError(
            f"unknown norm {name!r}{_meant(name, cell)}; known are {', '.join(PRESETS)}"
        )
    schemes = PRESETS[name]
    choose("cell", cell, STEPS)
    if cell not in schemes:
        raise ValueError(
            f"norm {name!r} is published for {' and '.join(schemes)}, not for {cell}; "
            f"for {cell} there are {', '.join(STEPS[cell].presets)}"
        )
    return schemes[cell].replace(**changes)


def described(scheme: NormScheme, step: Step) -> str:
    """Return a scheme as one would write it for ``norm=``, by the preset nearest to it."""
    found: list[tuple[int, str]] = []
    for name, schemes in PRESETS.items():
        changes = _changes(schemes[step.name], scheme) if step.name in schemes else None
        if changes is not None:
            shown = "".join(f", {field}={value!r}" for field, value in changes.items())
            text = f"preset({name!r}, {step.name!r}{shown})" if changes else repr(name)
            found.append((len(changes), text))
    return min(found, key=lambda one: one[0])[1] if found else repr(scheme)


def _changes(base: NormScheme, scheme: NormScheme) -> dict[str, object] | None:
    """Return the arguments with which ``base.replace`` gives the scheme, or None if none do.

    A norm of another kind is not such a change.
    """
    if base.norms.keys() != scheme.norms.keys():
        return None
    changes = {k: v for k, v in of_fields(scheme).items() if of_fields(base)[k] != v}
    for site in scheme.norms:
        changes.pop(site, None)
        before, after = of_fields(base.norms[site]), of_fields(scheme.norms[site])
        changes |= {k: v for k, v in after.items() if before[k] != v}
    try:
        return changes if "kind" not in changes and base.replace(**changes) == scheme else None
    except ValueError:
        return None


def resolve(norm: str | NormScheme | None, step: Step) -> NormScheme | None:
    """Return the scheme that ``norm=`` of a layer means.

    Raises:
        ValueError: an unknown name, or a scheme that this step cannot have.
        TypeError: ``norm`` is neither ``None`` nor a name nor a scheme.
    """
    if norm is None:
        return None
    if isinstance(norm, str):
        # A later step may have taken the name, and its presets are not those of this one.
        norm = step.presets.get(norm) or preset(norm, step.name)
    if isinstance(norm, Norm):
        raise TypeError(
            "a single Norm does not say where it stands, nor with which gain and bias it was "
            f'published there: write preset({norm.kind!r}, "{step.name}", eps=...), or a NormScheme'
        )
    if not isinstance(norm, NormScheme):
        cls = norm if isinstance(norm, type) else type(norm)
        hint = _meant(cls.__name__, step.name) if issubclass(cls, nn.Module) else ""
        hint = " (for no norm write None)" if norm is False else hint
        raise TypeError(
            f'norm must be None, a name as "layer", or a NormScheme, got {norm!r}{hint}'
        )
    step.check(norm)
    return norm


def _meant(name: str, cell: str) -> str:
    """Return a hint at the norm that an unknown word may mean, to close an error message.

    Raises:
        ValueError: the word means a norm that cannot stand in a recurrence.
    """
    word = re.sub(r"norm|[123]d|[^a-z]", "", name.lower())  # "layer_norm", "BatchNorm1d"
    cells = "|".join(sorted(STEPS, key=len, reverse=True)).lower()
    word = re.sub(f"({cells})(cell)?$", "", word) or word  # "LayerNormLSTM"
    word = _ELSEWHERE.get(word, word)
    if word in ("none", "null", "no", "false", ""):
        return " (for no norm write None)"
    if word in ("instance", "group"):
        Norm(word)  # raises, and says why
    if word in _UNPUBLISHED:
        norm = f'Norm("{_UNPUBLISHED[word]}")'
        return (
            " (there is no preset, as nothing was published for a recurrent network: write "
            f"NormScheme(input={norm}, hidden={norm}))"
        )
    if word not in PRESETS:
        return nearest(name, PRESETS)
    own = cell in PRESETS[word]
    return f" (did you mean {word!r}{'' if own else ', of ' + ' and '.join(PRESETS[word])}?)"
