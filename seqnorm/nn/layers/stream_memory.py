"""The states and numbers that streams keep from piece to piece.

Axes: B streams, F features of a state, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..check import nearest
from ..recurrence.int8 import dtype_of
from .initial_states import States
from .layer import RecurrentLayer


class Memory(NamedTuple):
    """All that streams keep between two pieces. Nothing changes it; a piece makes another.

    Attributes:
        states: the final state of every recurrent layer that was called, by its path and as the
            layer returned it.
        fresh: (B,) on the CPU, true for streams that have no step yet; or True or False for all.
        steps: (B,) on the CPU, the steps of every stream since it began; or one number for all.
    """

    states: dict[str, Any]
    fresh: bool | Tensor
    steps: int | Tensor

    def whole(self, batch: int) -> Whole:
        """Return the same with all axes, as copies of what is not a state.

        Args:
            batch: B.
        """
        states = {}
        for path, hx in self.states.items():
            states[path] = tuple([p if p.dim() == 3 else p.unsqueeze(1) for p in parts_of(hx)])
        fresh, steps = (torch.as_tensor(each, device="cpu") for each in (self.fresh, self.steps))
        return Whole(states, fresh.expand(batch).clone(), steps.expand(batch).clone())


BEGINNING = Memory({}, True, 0)


def parts_of(hx: Any) -> States:
    """Return the parts of a state, which is a tensor if there is one part."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


class Whole(NamedTuple):
    """The memory of streams with all axes.

    Attributes:
        states: (L, B, F) for each part of the state of every layer, by its path.
        fresh: (B,), see ``Memory``.
        steps: (B,).
    """

    states: dict[str, Any]
    fresh: Tensor
    steps: Tensor

    def settled(self) -> Memory:
        """Return the memory with one value for all streams where they agree."""
        fresh, steps = self.fresh, self.steps
        if bool(fresh.all()):
            return BEGINNING
        states = {}
        for path, hx in self.states.items():
            parts = parts_of(hx)
            states[path] = parts if len(parts) > 1 else parts[0]
        same = bool((steps == steps[0]).all())
        begins = fresh if bool(fresh.any()) else False
        return Memory(states, begins, int(steps[0]) if same else steps)

    def renewed(self, rows: Tensor) -> Whole:
        """Return the streams, of which those numbered begin anew."""
        fresh, steps = self.fresh.clone(), self.steps.clone()
        fresh[rows], steps[rows] = True, 0
        return Whole(self.states, fresh, steps)

    def select(self, rows: Tensor) -> Whole:
        """Return the streams that are numbered, in that order."""
        states = {
            path: tuple([part.index_select(1, rows.to(part.device)) for part in parts])
            for path, parts in self.states.items()
        }
        return Whole(states, self.fresh[rows], self.steps[rows])

    @staticmethod
    def joined(every: Sequence[Whole]) -> Whole:
        """Return the streams of all, one after another."""
        states: dict[str, States] = {}
        begun: dict[str, Any] = next((one.states for one in every if one.states), {})
        for path, like in begun.items():
            known = []
            for one in every:
                missing = [
                    part.new_zeros(len(part), len(one.fresh), part.shape[2]) for part in like
                ]
                known.append(one.states.get(path, missing))
            states[path] = tuple([torch.cat(parts, 1) for parts in zip(*known)])
        fresh = torch.cat([one.fresh for one in every])
        return Whole(states, fresh, torch.cat([one.steps for one in every]))

    def tensors(self, layers: Mapping[str, RecurrentLayer]) -> dict[str, Tensor]:
        """Return the memory by names."""
        found = {"steps": self.steps, "fresh": self.fresh}
        for path, parts in self.states.items():
            for name, part in zip(_names(path, layers[path]), parts):
                found[name] = part.clone()
        return found


def _names(path: str, layer: RecurrentLayer) -> list[str]:
    return [f"{path}.{letter}" if path else letter for letter in layer.step.states]


def read(tensors: Mapping[str, Tensor], layers: Mapping[str, RecurrentLayer], batch: int) -> Whole:
    """Return the memory that ``Whole.tensors`` has written.

    Args:
        layers: the layers of the model by their paths.
        batch: B.

    Raises:
        TypeError, ValueError, KeyError: see ``Stream.load_state_dict``.
    """
    left = dict(tensors)
    for name in ("steps", "fresh"):
        if name not in left:
            raise KeyError(
                f"the state of a stream has {name!r} (B,), and this one has "
                f"{', '.join(map(repr, left)) or 'nothing'}: save stream.state_dict()"
            )
    steps, fresh = _saved(left.pop("steps"), "steps"), _saved(left.pop("fresh"), "fresh")
    if steps.shape != (batch,) or fresh.shape != (batch,):
        raise ValueError(
            f"the state is that of {steps.numel()} streams, and this one has {batch}: build it "
            f"with batch={steps.numel()}"
        )
    states: dict[str, States] = {}
    for path, layer in layers.items():
        names = _names(path, layer)
        if not any(name in left for name in names):
            continue
        parts: States = ()
        device, dtype = layer.weight_ih_l0.device, dtype_of(layer, "weight_ih_l0")
        for name, size in zip(names, layer.state_sizes):
            if name not in left:
                raise KeyError(f"the state of the stream lacks {name!r}")
            part, wanted = _saved(left.pop(name), name), (layer.num_layers, batch, size)
            if tuple(part.shape) != wanted:
                raise ValueError(f"{name} must be (L, B, F) = {wanted}, got {tuple(part.shape)}")
            parts += (part.detach().to(device, dtype, copy=True),)
        states[path] = parts
    if left:
        name = next(iter(left))
        known = [each for path, layer in layers.items() for each in _names(path, layer)]
        raise ValueError(
            f"{name!r} is no state of this model{nearest(name, known)}: load it into a stream of "
            "the model that it was saved from"
        )
    if not states and not bool(fresh.all()):
        raise KeyError("the state of the stream lacks the states of the layers")
    return Whole(states, fresh.cpu().clone(), steps.to("cpu", torch.int64, copy=True))


def _saved(value: Any, name: str) -> Tensor:
    """Return a saved tensor, or raise TypeError if it cannot be one of that name."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
    boolean = value.dtype == torch.bool
    integers = not (boolean or value.is_floating_point() or value.is_complex())
    fits = {"steps": integers, "fresh": boolean}.get(name, value.is_floating_point())
    if not fits:
        raise TypeError(f"{name} has the dtype {value.dtype}, which state_dict() does not save")
    return value


def numbers_of(rows: Any, batch: int) -> Tensor:
    """Return the numbers of the streams that the user names, on the CPU.

    Args:
        rows: numbers, or (B,) booleans.
        batch: B.

    Raises:
        TypeError, ValueError, IndexError: they are not numbers of streams.
    """
    try:
        found = torch.as_tensor(rows, device=rows.device if isinstance(rows, Tensor) else "cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"rows must be numbers of streams or booleans, got {rows!r}") from error
    found = found.cpu()
    if not found.numel() and not isinstance(rows, Tensor):
        found = found.to(torch.int64)  # an empty list has no dtype
    if found.dtype == torch.bool:
        if found.shape != (batch,):
            raise ValueError(
                f"rows as booleans must have shape ({batch},), one for each stream, got "
                f"{tuple(found.shape)}"
            )
        return found.nonzero()[:, 0]
    if found.is_floating_point() or found.is_complex() or found.dim() > 1:
        raise TypeError(
            f"rows must be numbers of streams or booleans, got {found.dtype} {tuple(found.shape)}"
        )
    found = found.to(torch.int64).reshape(-1)
    wrong = (found < 0) | (found >= batch)
    if bool(wrong.any()):
        number = int(found[wrong.nonzero()[0, 0]])
        raise IndexError(f"there is no stream {number} among {batch}, which count from 0")
    return found
