"""Weights of other libraries: ``load_weights`` takes them over, ``to_weights`` gives them back.

Axes: T time steps of running statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..nn.layers.cell import RecurrentCell
from ..nn.layers.layer import RecurrentLayer
from .given import Given, as_tensor
from .layout import source_named
from .naming import Form, Slot, forms
from .parameters import Recurrent, Values, directions_of, is_parametrised


def load_weights(
    layer: Recurrent,
    tensors: Mapping[str, Any] | Sequence[Any],
    source: str,
    *,
    prefix: str = "",
) -> None:
    """Fill a layer or cell with the weights of another library, so that it computes the same.

    Gates are reordered, matrices transposed, and joint tensors divided, as the table of the source
    says. A bias that the original lacks becomes 0. Running statistics go into the running tables: a
    step that holds the initial values, mean 0 and variance 1, gets the count 0, and every other
    step gets a million, as by ``RunningTable.adopt``. Nothing is written unless everything fits.

    >>> import torch, seqnorm
    >>> theirs = torch.nn.LSTM(16, 32, bidirectional=True)
    >>> lstm = seqnorm.LSTM(16, 32, bidirectional=True)
    >>> seqnorm.load_weights(lstm, theirs.state_dict(), "torch")

    Args:
        layer: a layer or cell with the norm of the source, as ``docs/weights_of_peers.md`` lists
            it.
        tensors: arrays (of torch, numpy, or anything with ``__array__``) by their names in the
            original, possibly nested; or a list of such mappings, one for each layer and direction
            (layer 0, layer 0 reversed, layer 1, ...); or, for keras and tfa, the list of arrays
            that ``get_weights()`` returns.
        source: the name of the library.
        prefix: the beginning of the names that belong to this layer. It is cut off, and tensors
            with other names are not looked at.

    Raises:
        TypeError: ``layer`` or ``tensors`` is of another type.
        ValueError: the source is unknown; the layer has another norm, nonlinearity or zoneout than
            the source; or tensors are missing, left over, of another shape or no numbers, of which
            one error lists all.
    """
    _check_layer("load_weights", layer)
    found = source_named(source)
    layouts = found.layouts_for(layer, source)
    owners = directions_of(layer)
    given = Given(tensors, prefix, found.clean)
    if given.unnamed:
        if not found.ordered:
            raise TypeError(f"weights of {source!r} have names: give a mapping, as state_dict()")
        form = forms(found, layouts, layer, owners, numbered=True)[0]
        given.named([slot.name for slot in form.slots(1)])
    else:
        possible = forms(found, layouts, layer, owners, numbered=given.numbered)
        form = min(possible, key=lambda one: one.distance(given))
    slots = form.slots(form.steps_in(given.arrays))
    filled = [Values(own) for own in owners]
    problems = _fill(form, slots, given, filled)
    problems = problems or _homeless(filled, source) + _bad_statistics(filled)
    if problems:
        hint = _prefix_hint(slots, given) or form.layout.note
        raise ValueError(
            f"the tensors do not fit {type(layer).__name__} as weights of {source!r}, and nothing "
            f"was written:{_lines(problems)}{hint and chr(10)}{hint}"
        )
    with torch.no_grad():
        for values in filled:
            for _, old, new in values.parameters():
                old.copy_(new)
            for _, table, mean, var, count in values.statistics():
                table.adopt(mean, var, count)


def to_weights(layer: Recurrent, source: str) -> dict[str, Tensor]:
    """Return the weights of a layer or cell in the form of another library.

    After ``load_weights(layer, tensors, source)`` they are the same tensors under the same names.
    They come in the order of the original, which ``set_weights`` of Keras needs.

    >>> import seqnorm
    >>> theirs = seqnorm.to_weights(seqnorm.GRU(16, 32), "keras")
    >>> [(name, tuple(tensor.shape)) for name, tensor in theirs.items()]
    [('kernel', (16, 96)), ('recurrent_kernel', (32, 96)), ('bias', (2, 96))]

    Args:
        layer: as in ``load_weights``.
        source: the name of the library.

    Returns:
        Copies of the tensors by their names in the original.

    Raises:
        TypeError: ``layer`` is no layer or cell of seqnorm.
        ValueError: the source is unknown or has no such layer; or it has no place for some of the
            numbers, so that it would compute something else.
    """
    _check_layer("to_weights", layer)
    found = source_named(source)
    layouts = found.layouts_for(layer, source)
    owners = directions_of(layer)
    form = forms(found, layouts[:1], layer, owners)[0]
    for own in owners:
        own.merge(form.layout.merged)
    written: dict[str, Tensor] = {}
    filled = [Values(own) for own in owners]
    problems = []
    for slot in form.slots(max(own.steps for own in owners)):
        own = owners[slot.direction]
        own.choose(slot.step)
        tensor = slot.part.write(own, form.layout.gates).contiguous()
        if slot.name in written and not torch.equal(written[slot.name], tensor):
            problems.append(f"{slot.name} would differ between the directions, which share it")
        written[slot.name] = tensor
        for name, gate, rows in slot.part.read(tensor, own, form.layout.gates):
            filled[slot.direction].add(name, gate, rows, slot.step)
    problems = problems or _homeless(filled, source)
    problems = problems or _lost(filled, source)
    if problems:
        raise ValueError(
            f"{type(layer).__name__} cannot be written as weights of {source!r}:{_lines(problems)}"
        )
    return written


def _check_layer(name: str, layer: object) -> None:
    if not isinstance(layer, (RecurrentLayer, RecurrentCell)):
        raise TypeError(
            f"{name} takes a recurrent layer or cell of seqnorm, got {type(layer).__name__}: give "
            "the layer itself, as model.rnn"
        )
    if layer.quantised:
        raise ValueError(
            f"{name}: this layer has weights of int8, which no other form has: move weights in "
            "floating point, before seqnorm.quantize_(model)"
        )
    if is_parametrised(layer):
        raise ValueError(
            f"{name}: a parametrization computes a weight of this layer, and a copy into it would "
            "be lost: move the weights first, and parametrise afterwards"
        )


def _lines(problems: Iterable[str]) -> str:
    return "".join(f"\n  {problem}" for problem in dict.fromkeys(problems))


def _fill(form: Form, slots: list[Slot], given: Given, filled: list[Values]) -> list[str]:
    """Read all tensors that fit; return a sentence on each that does not."""
    problems = []
    for slot in slots:
        own = form.owners[slot.direction]
        wanted = slot.part.write(own, form.layout.gates).shape
        if slot.name not in given.arrays:
            problems.append(f"missing: {slot.name} {tuple(wanted)}")
            continue
        tensor = as_tensor(given.arrays[slot.name])
        if tensor is None:
            problems.append(f"not an array of floating-point numbers: {slot.name}")
        elif tensor.shape != wanted:
            turned = tensor.dim() == 2 and tensor.mT.shape == wanted
            problems.append(
                f"wrong shape: {slot.name} is {tuple(tensor.shape)}, and {tuple(wanted)} is needed"
                + ", its transpose" * turned
            )
        else:
            for name, gate, rows in slot.part.read(tensor, own, form.layout.gates):
                filled[slot.direction].add(name, gate, rows, slot.step)
    known = {slot.name for slot in slots} | form.ignored()
    for name, array in given.arrays.items():
        if name not in known:
            problems.append(f"left over: {name} {tuple(getattr(array, 'shape', ()))}")
    return problems


def _homeless(filled: list[Values], source: str) -> list[str]:
    """Return a sentence on each of our weights that the original does not have."""
    return [
        f"{source!r} has no {name}, and this layer has"
        for values in filled
        for name in values.lacks()
    ]


def _lost(filled: list[Values], source: str) -> list[str]:
    """Return a sentence on each of our weights that would come back changed."""
    found = []
    for values in filled:
        for name, own, back in values.parameters():
            # A number that is added and subtracted again is lost to rounding.
            slack = 4 * torch.finfo(own.dtype).eps * (1 + own.abs())
            if not bool(((own - back).abs() <= slack).all()):
                found.append(f"{source!r} has no place for some numbers of {name}, which are not 0")
    return found


def _bad_statistics(filled: list[Values]) -> list[str]:
    found = []
    for values in filled:
        for norm, table, mean, var, _ in values.statistics():
            if len(mean) > table.max_steps:
                found.append(
                    f"statistics of {len(mean)} steps for {norm}, whose table has "
                    f"{table.max_steps}: build the layer with "
                    f"norm=seqnorm.preset(..., max_steps={len(mean)})"
                )
            if not bool(mean.isfinite().all() and var.isfinite().all() and (var >= 0).all()):
                found.append(f"running statistics of {norm} must be finite, the variance >= 0")
    return found


def _prefix_hint(slots: list[Slot], given: Given) -> str:
    """Return a hint if all names of the original are there behind a common beginning."""
    names = given.arrays.keys()
    for name in names:
        if name.endswith(slots[0].name) and name != slots[0].name:
            prefix = name[: len(name) - len(slots[0].name)]
            if all(prefix + slot.name in names for slot in slots):
                return f"names begin with {prefix!r}: write prefix={prefix!r}"
    return ""
