"""The arguments of a layer's call in each of their forms, brought to packed rows, and back.

Axes: T steps, B sequences, N packed rows, I = input_size, P = size of h (H, or proj_size),
L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .. import backends
from ..check import check_first_step
from ..recurrence.packing import Documents, Packing, TensorPacking
from ..recurrence.segments import Segments
from ..statistics.masks import check_lengths
from ..statistics.ragged import is_ragged, like, ragged
from .arguments import check_states, refuse_input
from .initial_states import States, Suffixes, initial_states, own_states, renew
from .resets import check_first_steps, check_resets, refuse_unknown_step, rows_of_resets

Input = Union[Tensor, PackedSequence]
Lengths = Union[Tensor, Sequence[int], None]


class Given(NamedTuple):
    """A call of a layer, as packed rows.

    Attributes:
        rows: (N, I).
        packing: the packing of the rows.
        states: initial states (L * D, B, .) in packed order.
        form: the input as the user gave it; the output takes its form.
        swapped: true for a padded input (B, T, I).
        ragged: true for an input without padding.
    """

    rows: Tensor
    packing: Packing
    states: States
    form: Input
    swapped: bool = False
    ragged: bool = False

    def result(self, rows: Tensor, finals: States) -> tuple[Any, States]:
        """Return the output in the form of the input, and the final states (L * D, B, .).

        Args:
            rows: (N, D * P) outputs of the packed rows.
            finals: final states in packed order.
        """
        packing, form = self.packing, self.form
        finals = packing.unsorted(finals)
        if isinstance(form, PackedSequence):
            # torch.compile does not follow _replace.
            order = form.sorted_indices, form.unsorted_indices
            return PackedSequence(packing.flat(rows), form.batch_sizes, *order), finals
        if self.ragged:
            total = len(form.values() if form.is_nested else form)
            return like(form, packing.pad(rows, total)), finals
        if form.dim() == 2:
            output = packing.pad(rows, form.shape[0])
            return output.squeeze(1), tuple([part.squeeze(1) for part in finals])
        output = packing.pad(rows, form.shape[1 if self.swapped else 0])
        return output.transpose(0, 1) if self.swapped else output, finals


def read(
    layer: Any, input: Input, hx: States | None, lengths: Lengths, first: Any, suffixes: Suffixes
) -> Given:
    """Check the arguments of a call on padded or packed sequences.

    Args:
        layer: the layer.
        first: the number of the first step.
        suffixes: for each layer, the suffixes of its directions.
    """
    if type(first) is not int or first != 0:
        first = check_first_step(first, len(suffixes[0]) > 1)
    x, hx, packing, swapped = _packed(layer, input, hx, lengths, suffixes)
    packing.first = first
    states = initial_states(layer, hx, packing, x, suffixes)
    rows = x if isinstance(input, PackedSequence) else packing.pack(x)
    return Given(rows, packing, states, input, swapped)


def _packed(
    layer: Any, input: Input, hx: States | None, lengths: Lengths, suffixes: Suffixes
) -> tuple[Tensor, States | None, Packing, bool]:
    """Return (T, B, I), or the rows of a ``PackedSequence``, states with B, and the packing."""
    name = type(layer).__name__
    if hx is not None:
        check_states(name, layer.step.states, hx)
    if isinstance(input, PackedSequence):
        if lengths is not None:
            raise ValueError("a PackedSequence knows its lengths: leave lengths=None")
        layer._check_input(input.data, 2)
        return input.data, hx, Packing.from_packed(input), False
    if lengths is not None and isinstance(input, Tensor) and input.dim() == 2:
        raise ValueError("lengths belong to a batch: leave lengths=None for unbatched input")
    input, hx, swapped = padded(layer, input, hx)
    steps, batch, _ = input.shape
    if lengths is None:
        packing = Packing.of_equal_lengths(batch, steps, input.device)
    else:
        lengths = check_lengths(lengths, batch, steps, layer.batch_first)
        packing = _of_lengths(layer, input, hx, lengths, suffixes)
    return input, hx, packing, swapped


def padded(layer: Any, input: Any, hx: States | None) -> tuple[Tensor, States | None, bool]:
    """Return (T, B, I), the states with B, and whether the input was (B, T, I)."""
    name = type(layer).__name__
    if not isinstance(input, Tensor):
        refuse_input(name, input)
    if input.layout != torch.strided:
        raise TypeError(
            f"{name} takes dense input, got {input.layout}: convert it, input.to_dense(), or "
            "pad it and give lengths"
        )
    if input.dim() not in (2, 3):
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
    batched = input.dim() == 3
    if hx is not None:
        layer._check_states_dim(hx, batched)
    if not batched:
        input = input.unsqueeze(1)
        hx = None if hx is None else tuple([part.unsqueeze(1) for part in hx])
    elif layer.batch_first:
        input = input.transpose(0, 1)
    layer._check_input(input, 3)
    return input, hx, batched and layer.batch_first


def _of_lengths(
    layer: Any, input: Tensor, hx: States | None, lengths: Tensor, suffixes: Suffixes
) -> Packing:
    """Return the packing of a padded batch, for all lengths if a graph's backend allows it."""
    on_cpu = input.device.type == lengths.device.type == "cpu"
    if torch.compiler.is_compiling() and on_cpu and not layer.over_batch:
        packing = TensorPacking(lengths, input.shape[0])
        rows, states = packing.pack(input), initial_states(layer, hx, packing, input, suffixes)
        state = tuple([part[0] for part in states])
        names = [suffix for one in suffixes for suffix in one]
        calls = [(layer.direction(suffix), rows, packing, state) for suffix in names]
        if all([backends.choice(*call) is backends.cpu for call in calls]):
            return packing
    return Packing.from_lengths(lengths, input.device)


def read_any(
    layer: Any,
    suffixes: Suffixes,
    input: Input,
    hx: States | None,
    lengths: Lengths,
    first_step: Any,
    resets: Any,
    cu_seqlens: Any,
) -> Given:
    """Check the arguments of a call in any form, with resets; not for graphs of torch.compile."""
    packing: Packing
    shape: tuple[int, ...]
    without_padding = is_ragged(input, cu_seqlens)
    if without_padding:
        name = type(layer).__name__
        x, starts, ends = ragged(name, input, lengths, cu_seqlens)
        layer._check_input(x, 2)
        packing = Documents(starts, ends, x.device)
        if hx is not None:
            check_states(name, layer.step.states, hx)
            layer._check_states_dim(hx, True)
        swapped, shape, letters = False, (len(x),), "N,"
    else:
        x, hx, packing, swapped = _packed(layer, input, hx, lengths, suffixes)
        if isinstance(input, PackedSequence):
            shape, letters = (len(x),), "N,"
        else:
            shape = tuple(input.shape[:-1])
            letters = "T," if len(shape) == 1 else "B, T" if swapped else "T, B"
    states = initial_states(layer, hx, packing, x, suffixes)
    rows = x if isinstance(input, PackedSequence) else packing.pack(x)
    numbers = check_first_steps(first_step, packing.batch, len(suffixes[0]) > 1)
    given = Given(rows, packing, states, input, swapped, without_padding)
    if resets is None and isinstance(numbers, int):
        packing.first = numbers
        return given
    if resets is None:
        flags = torch.zeros(len(rows), dtype=torch.bool, device="cpu")
    else:
        flags = check_resets(rows_of_resets(resets, input), shape, letters).to(x.device)
        if letters == "T,":
            flags = flags[:, None]
        elif swapped:
            flags = flags.T
        if not isinstance(input, PackedSequence):
            flags = packing.pack(flags[..., None])[:, 0]
        flags = flags.cpu()
    # A tensor of zeros says that all sequences begin at step 0; the default says nothing.
    untold = isinstance(numbers, int) and numbers == 0
    unknown = resets is not None and hx is not None and untold
    return _renewed(layer, given, flags, numbers, unknown, suffixes)


def _renewed(
    layer: Any,
    given: Given,
    resets: Tensor,
    numbers: int | Tensor,
    unknown: bool,
    suffixes: Suffixes,
) -> Given:
    """Return a call whose sequences begin anew at the resets (N,), on the CPU.

    Args:
        numbers: the number of the first step, or (B,) those of all sequences.
        unknown: true if nothing tells at which step the given states go on.
    """
    whole, directions = given.packing, len(suffixes[0])
    alive = whole.batch_sizes[0] if whole.batch_sizes else 0
    renewed = torch.zeros(whole.batch, dtype=torch.bool, device="cpu")
    renewed[:alive] = resets[:alive]
    own = own_states(layer, given.states[0], suffixes)
    first_steps = None
    same = True
    if layer.counts_steps:
        if unknown and not renewed[:alive].all():
            refuse_unknown_step(directions > 1)
        first_steps = torch.as_tensor(numbers, device="cpu").expand(whole.batch)
        if whole.order is not None:
            first_steps = first_steps[whole.order.cpu()]
        counted = torch.where(renewed, 0, first_steps)[:alive].unique().tolist()
        same = len(counted) <= 1
        whole.first = counted[0] if counted else 0
    if same and not resets[alive:].any():
        renewed = renewed.to(given.rows.device)
        return given._replace(states=renew(layer, given.states, own, renewed, directions))
    packing = Segments(whole, resets, directions, first_steps)
    states = tuple([packing.start(*parts) for parts in zip(given.states, own)])
    return given._replace(rows=packing.cut(given.rows), packing=packing, states=states)
