"""What every recurrent layer is: torch's contract, with norms.

Axes: T steps, B sequences, N packed rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import backends
from ..autocast import autocast_dtype, is_autocast
from ..backends.watching import refuse_freed
from ..check import (
    changed_options,
    check_first_step,
    check_flag,
    check_probability,
    check_sizes,
    warn,
)
from ..recurrence.direction import Direction, gather, initialise, register, small_batch
from ..recurrence.packing import Packing, TensorPacking
from ..recurrence.presets import described, resolve
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Step
from ..statistics.masks import check_lengths
from ..statistics.processes import the_same
from ..statistics.report import Report, report
from .arguments import refuse_input, refuse_states
from .chunks import Chunks, in_chunks
from .torch_contract import OutsideLayer

States = tuple[Tensor, ...]


class RecurrentLayer(OutsideLayer):
    """Parameters, layers and directions, the forms of input and state.

    Args:
        cell: the mathematics of a step.
        zoneout: a probability for each part of the state.
        input_size, ...: see ``LSTM``.
    """

    weight_ih_l0: nn.Parameter
    # How the steps are divided, see ``compute_in_chunks``.
    chunks: Chunks | None = None

    def __init__(
        self,
        cell: Step,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | NormScheme | None,
        zoneout: tuple[float, ...],
        recurrent_dropout: float,
    ) -> None:
        nn.Module.__init__(self)  # not of a class of torch's that a layer may be besides
        input_size, hidden_size, num_layers, proj_size = check_sizes(
            input_size, hidden_size, num_layers, proj_size
        )
        bias = check_flag("bias", bias)
        batch_first = check_flag("batch_first", batch_first)
        bidirectional = check_flag("bidirectional", bidirectional)
        check_probability("dropout", dropout)
        check_probability("recurrent_dropout", recurrent_dropout)
        for probability in zoneout:
            if isinstance(probability, (tuple, list)):
                raise ValueError(
                    f"zoneout is one probability, for one part of this state is kept, not "
                    f"{probability!r}: a pair is for an LSTM's (h, c)"
                )
            check_probability("zoneout", probability)
        if dropout > 0 and num_layers == 1:
            warn(
                "dropout stands between recurrent layers, after all but the last: with "
                f"num_layers=1, dropout={dropout} has no effect"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.zoneout = zoneout
        self.recurrent_dropout = float(recurrent_dropout)
        self.norm = resolve(norm, cell)
        norms = [] if self.norm is None else self.norm.norms.values()
        self._over_batch = any(each.over_batch for each in norms)
        self._cell = cell
        factory = {"device": device, "dtype": dtype}
        width = (proj_size or hidden_size) * self._directions
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                size = input_size if layer == 0 else width
                register(self, suffix, cell, size, hidden_size, proj_size, bias, self.norm, factory)
        self._warned = False
        self.reset_parameters()

    def ways(self) -> list[RecurrentLayer]:
        """Each direction of a single layer as a layer that reads forwards, of the same parameters:
        one that was the backward one is to be given sequences turned round.

        Raises:
            ValueError: layers on top of each other, of which each needs both directions before.
        """
        if not self.bidirectional:
            return [self]
        if self.num_layers > 1:
            raise ValueError("the directions of several layers cannot be computed apart")
        found = []
        for number in range(2):
            way = copy.copy(self)  # of the same dictionaries of parameters and modules
            way.bidirectional, way._ways = False, slice(number, number + 1)
            found.append(way)
        return found

    def directions(self) -> list[Direction]:
        """Every layer's directions, in the order of the states: layer 0, layer 0 reversed, ..."""
        return [
            gather(self, suffix, self._cell, self.norm, self.zoneout)
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget all running statistics."""
        for direction in self.directions():
            initialise(direction, self.hidden_size)

    def report(self) -> Report:
        """How many rows the running statistics of every step rest on."""
        return report(self)

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        options = ["proj_size", "num_layers", "nonlinearity", "num_heads", "bias", "batch_first"]
        options += ["dropout", "bidirectional", "recurrent_dropout"]
        parts += changed_options(self, options)
        if self.chunks is not None:
            parts.append(str(self.chunks))
        if any(self.zoneout):
            parts.append(f"zoneout={self.zoneout if len(self.zoneout) > 1 else self.zoneout[0]}")
        if self.norm is not None:
            parts.append(f"norm={described(self.norm, self._cell)}")
        return ", ".join(parts)

    def _run(
        self,
        input: Tensor | PackedSequence,
        hx: States | None,
        lengths: Tensor | Sequence[int] | None,
        first_step: int,
    ) -> tuple[Tensor | PackedSequence, States]:
        """Output in the form of the input, and the final states (L * D, B, .)."""
        first_step = check_first_step(first_step, self.bidirectional)
        if hx is not None and not (
            isinstance(hx, (tuple, list)) and all(isinstance(part, Tensor) for part in hx)
        ):
            self._refuse(hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths: leave lengths=None")
            data = input.data
            self._check_input(data, 2)
            packing = Packing.from_packed(input)
            packing.first = first_step
            rows, final = self._layers(data, packing, self._initial(hx, packing, data))
            # Not by _replace, which torch.compile does not follow.
            order = input.sorted_indices, input.unsorted_indices
            return PackedSequence(rows, input.batch_sizes, *order), final

        name = type(self).__name__
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
        self._check_states_dim(hx, batched)
        if not batched:
            if lengths is not None:
                raise ValueError(
                    "lengths belong to a batch: leave lengths=None for unbatched input"
                )
            input = input.unsqueeze(1)
            hx = None if hx is None else tuple(part.unsqueeze(1) for part in hx)
        elif self.batch_first:
            input = input.transpose(0, 1)
        self._check_input(input, 3)
        steps, batch, _ = input.shape
        if lengths is None:
            packing = Packing.of_equal_lengths(batch, steps, input.device)
        else:
            packing = self._packing(
                input, hx, check_lengths(lengths, batch, steps, self.batch_first)
            )
        packing.first = first_step
        initial = self._initial(hx, packing, input)
        rows, final = self._layers(packing.pack(input), packing, initial)
        output = packing.pad(rows, steps)
        if not batched:
            return output.squeeze(1), tuple(part.squeeze(1) for part in final)
        return output.transpose(0, 1) if self.batch_first else output, final

    def _packing(self, input: Tensor, hx: States | None, lengths: Tensor) -> Packing:
        """In a graph one for all lengths, where whoever computes it needs them no earlier."""
        on_cpu = input.device.type == lengths.device.type == "cpu"
        if torch.compiler.is_compiling() and on_cpu and not self._over_batch:
            packing = TensorPacking(lengths, input.shape[0])
            rows, states = packing.pack(input), self._initial(hx, packing, input)
            state = tuple(part[0] for part in states)
            calls = [(direction, rows, packing, state) for direction in self.directions()]
            if all(backends.choice(*call) is backends.cpu for call in calls):
                return packing
        return Packing.from_lengths(lengths, input.device)

    def _layers(self, rows: Tensor, packing: Packing, initial: States) -> tuple[Tensor, States]:
        """All layers over packed rows (N, I); states (L * D, B, .) in packed order, both ways."""
        directions = self.directions()
        processes = the_same(found for direction in directions for found in direction.shared_with())
        if processes is not None:
            packing = packing.among(processes.rows(packing.batch_sizes, packing.device))
        if self._over_batch:
            for direction in directions:
                direction.check(len(packing.batch_sizes), packing.first)
        # Later parts of long sequences may well be left with few.
        if self.training and self._over_batch and not (self._warned or packing.first):
            message = small_batch(self.norm, packing.totals or packing.batch_sizes)
            if message is not None:
                self._warned = True
                warn(message)
        finals: list[States] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0:
                rows = F.dropout(rows, self.dropout, self.training)
            calls: list[tuple[Direction, Tensor, Packing, States]] = []
            for number in range(layer * self._directions, (layer + 1) * self._directions):
                direction = directions[number]
                if self.recurrent_dropout > 0:
                    direction.weight_hh = F.dropout(
                        direction.weight_hh, self.recurrent_dropout, self.training
                    )
                seen = packing.reverse(rows) if calls else rows
                calls.append((direction, seen, packing, tuple(part[number] for part in initial)))
            outputs, states = zip(*self._compute(calls))
            finals += states
            rows = (
                torch.cat([outputs[0], packing.reverse(outputs[1])], -1)
                if calls[1:]
                else outputs[0]
            )
        return rows, tuple(packing.unsort(torch.stack(parts)) for parts in zip(*finals))

    def _compute(
        self, calls: list[tuple[Direction, Tensor, Packing, States]]
    ) -> list[tuple[Tensor, States]]:
        """The directions of a layer, in chunks of time if so asked."""
        packing, chunks = calls[0][2], self.chunks
        if chunks is None or torch.compiler.is_compiling():
            return backends.run_layer(calls)
        if packing.empty or packing.steps <= chunks.steps:
            return backends.run_layer(calls)
        if packing.totals is not None:
            # Of one process a chunk may have no rows, and the others would wait for it.
            raise ValueError(
                "several processes share the statistics of this layer, which are exchanged for "
                "whole sequences: train it whole, compute_in_chunks(module, None), or by the "
                "statistics of each process, revert_sync_batchnorm(module)"
            )
        return [in_chunks(chunks, *call) for call in calls]

    def _initial(self, hx: States | None, packing: Packing, input: Tensor) -> States:
        """The initial states in packed order, checked; zeros if none are given."""
        entries = self.num_layers * self._directions
        sizes = [self.proj_size or self.hidden_size]
        sizes += [self.hidden_size] * (len(self._cell.states) - 1)
        # Under autocast a state keeps the precision of the weights; without a norm everything is
        # half precision where torch has that layer, as in torch, whichever backend computes it;
        # but float64, which autocast leaves alone.
        dtype = self.weight_ih_l0.dtype
        halve = self.norm is None and self._cell.fused is not None and dtype != torch.float64
        halve = halve and is_autocast(input.device.type)
        if halve:
            dtype = autocast_dtype(input.device.type)
        if hx is None:
            return tuple(
                input.new_zeros(entries, packing.batch, size, dtype=dtype) for size in sizes
            )
        if len(hx) != len(sizes):
            raise ValueError(f"hx must hold {len(sizes)} states, got {len(hx)}")
        for number, (part, size) in enumerate(zip(hx, sizes)):
            expected = (entries, packing.batch, size)
            if tuple(part.shape) != expected:
                which = "hidden" if len(sizes) == 1 else f"hidden[{number}]"
                raise RuntimeError(f"Expected {which} size {expected}, got {list(part.shape)}")
            if part.device != input.device:
                raise RuntimeError(
                    "Input and hidden tensors are not at the same device, found input tensor at "
                    f"{input.device} and hidden tensor at {part.device}"
                )
            if part.dtype != input.dtype and not is_autocast(input.device.type):
                raise RuntimeError(
                    f"hx[{number}] has dtype {part.dtype}, the input {input.dtype}: convert it, "
                    f"hx.to({input.dtype})"
                )
        if halve:
            hx = tuple(part.to(dtype) for part in hx)
        if packing.order is not None:
            refuse_freed(hx)
        return tuple(packing.sort(part) for part in hx)

    def _refuse(self, hx: Any) -> NoReturn:
        letters = self._cell.states
        refuse_states(type(self).__name__, letters, hx[0] if len(letters) == 1 else hx)

    def _check_states_dim(self, hx: States | None, batched: bool) -> None:
        expected = 3 if batched else 2
        if hx is None or all(part.dim() == expected for part in hx):
            return
        if len(hx) == 1 and not hx[0].is_floating_point():
            self._refuse(hx)
        got = ", ".join(f"{part.dim()}-D" for part in hx)
        kind = "batched 3-D" if batched else "unbatched 2-D"
        which = "hx" if len(hx) == 1 else "hx and cx"
        raise RuntimeError(
            f"For {kind} input, {which} should also be {expected}-D but got ({got}) tensors"
        )

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raise what a call would for an input that does not fit, as torch's layers do.

        Args:
            input: (T, B, I) or, with ``batch_sizes``, the rows (N, I) of a ``PackedSequence``.
        """
        self._check_input(input, 3 if batch_sizes is None else 2)

    def _check_input(self, input: Tensor, dims: int) -> None:
        weight = self.weight_ih_l0
        if input.device != weight.device:
            raise RuntimeError(
                "Input and parameter tensors are not at the same device, found input tensor at "
                f"{input.device} and parameter tensor at {weight.device}"
            )
        if input.dtype != weight.dtype and not is_autocast(input.device.type):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), "
                f"or convert model: model.to({input.dtype})"
            )
        if input.dim() != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {input.shape[-1]}"
            )
