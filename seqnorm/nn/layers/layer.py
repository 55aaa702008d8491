"""Recurrent layers of any step: torch's contract, with norms.

Axes: T steps, B sequences, N packed rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import backends
from ..check import check_first_step, check_flag, check_sizes, warn
from ..recurrence.direction import Direction, DirectionCall, gather, initialise, register
from ..recurrence.packing import Packing, TensorPacking
from ..recurrence.presets import resolve
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Step
from ..statistics.masks import check_lengths
from ..statistics.processes import Processes, the_same
from .arguments import check_states, check_step, refuse_input
from .chunks import Chunks, in_chunks
from .inference import infer_layer
from .initial_states import States, Suffixes, initial_states
from .torch_contract import TorchContract

Input = Union[Tensor, PackedSequence]
Lengths = Union[Tensor, Sequence[int], None]


class RecurrentLayer(TorchContract):
    """A recurrent layer of any ``Step``, with all options of ``seqnorm.LSTM``.

    >>> layer = RecurrentLayer(LeakyStep(), 16, 32, num_layers=2, bidirectional=True, norm="layer")
    >>> output, h = layer(torch.randn(5, 3, 16), lengths=[5, 2, 4])

    Args:
        step: the mathematics of a step, a ``Step``.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype: as in ``torch.nn.LSTM``.
        norm: ``None``, the name of a preset of the step, or a ``NormScheme``.
        zoneout: probability that a unit of the state keeps its value, or a tuple with one for each
            part of the state in ``Step.zoned``.
        recurrent_dropout: probability that an element of W_hh is zeroed, see ``seqnorm.LSTM``.

    Raises:
        TypeError, ValueError: a size, probability or norm is invalid.
    """

    _options = (
        *("proj_size", "num_layers", "nonlinearity", "num_heads", "bias", "batch_first"),
        *("dropout", "bidirectional", "recurrent_dropout"),
    )

    def __init__(
        self,
        step: Step,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float | tuple[float, ...] = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        nn.Module.__init__(self)  # a subclass may derive from a class of torch's too
        self.step = check_step(step)
        self.input_size, self.hidden_size, self.num_layers, self.proj_size = check_sizes(
            input_size, hidden_size, num_layers, proj_size
        )
        if self.proj_size and not step.projects:
            raise ValueError(
                f"a {step.name} has no projection, because its step reads h as H units: leave "
                "proj_size=0, or set projects = True in a step that reads only its second argument"
            )
        self.bias = check_flag("bias", bias)
        self.batch_first = batch_first
        self.bidirectional = check_flag("bidirectional", bidirectional)
        self.dropout = dropout
        if dropout > 0 and num_layers == 1:
            warn(
                "dropout stands between recurrent layers, after all but the last: with "
                f"num_layers=1, dropout={dropout} has no effect"
            )
        self.zoneout = zoneout  # type: ignore[assignment]  # becomes a tuple, one for each part
        self.recurrent_dropout = recurrent_dropout
        self.norm = resolve(norm, step)
        self.chunks: Chunks | None = None  # set by ``compute_in_chunks``
        norms = [] if self.norm is None else self.norm.norms.values()
        self._over_batch = any(each.over_batch for each in norms)
        self._warned = False
        self._gathered: dict[str, Direction] = {}
        self._prepared = None
        factory = {"device": device, "dtype": dtype}
        # The endings of the names of parameters, for each layer and direction.
        ends = ["", "_reverse"] if self.bidirectional else [""]
        self.suffixes = [[f"_l{k}{end}" for end in ends] for k in range(self.num_layers)]
        size = self.input_size
        for layer in self.suffixes:
            for suffix in layer:
                sizes = size, self.hidden_size, self.proj_size
                register(self, suffix, step, *sizes, self.bias, self.norm, factory)
            size = (self.proj_size or self.hidden_size) * len(ends)
        self.reset_parameters()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_gathered": {}, "_prepared": None}

    def direction(self, suffix: str) -> Direction:
        """Return one layer in one direction, by the suffix of its parameters."""
        given = self.step, self.norm, self.zoneout
        if torch.compiler.is_compiling():  # a graph would be bound to the directions that it reads
            return gather(self, suffix, *given)
        known = self._gathered.get(suffix)
        if known is not None and known.is_of(self, *given):
            return known
        found = gather(self, suffix, *given)
        # Keep alive neither the computed weights of one call nor the parameters before them.
        if all([type(tensor) is nn.Parameter for tensor in found.tensors]):
            self._gathered[suffix] = found
        else:
            self._gathered.pop(suffix, None)
        return found

    def directions(self) -> list[Direction]:
        """Return all directions in the order of the states: layer 0, layer 0 reversed, ..."""
        return [self.direction(suffix) for layer in self.suffixes for suffix in layer]

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget all running statistics."""
        for direction in self.directions():
            initialise(direction, self.hidden_size)

    def _described(self) -> list[str]:
        parts = super()._described()
        if self.chunks is not None:
            parts.append(str(self.chunks))
        if any(self.zoneout):
            parts.append(f"zoneout={self.zoneout if len(self.zoneout) > 1 else self.zoneout[0]}")
        return parts

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        first_step: int = 0,
    ) -> tuple[Any, Any]:
        """Compute outputs and final states of whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with batch_first, (T, I), or a ``PackedSequence``.
            hx: the initial state, zeros if None: (h_0 (L * D, B, P), c_0 (L * D, B, H)) of an LSTM,
                h_0 of a step whose state is h alone; without B for unbatched input.
            lengths: (B,) integers in 0..T in any order, for padded input.
            first_step: number of steps that earlier calls have read of the same sequences, where
                ``hx`` is their final state. BatchNorm's statistics of every step count from there.

        Returns:
            The outputs (T, B, D * P) of the last layer in the form of the input, zero in the
            padding, and the state after the last step of every sequence, in the form of ``hx``.

        Raises:
            TypeError, ValueError, RuntimeError: a shape or dtype is wrong, as torch raises it, or
                ``first_step`` is not 0 in a bidirectional layer.
            IndexError: a norm has no statistics for a step, and ``beyond="error"``.
        """
        single = len(self.step.states) == 1
        states: Any = (hx,) if single and hx is not None else hx
        if lengths is None and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            short = infer_layer(self, input, states, first_step)
            if short is not None:
                return short[0], short[1][0] if single else short[1]
        output, final = self._run(input, states, lengths, first_step, self.suffixes)
        return output, final[0] if single else final

    def one_direction(
        self, number: int, input: Tensor, hx: States | None, lengths: Tensor, first_step: int
    ) -> tuple[Tensor, States]:
        """Run one direction by itself, forwards over its own input.

        Args:
            number: 0 for the forward direction, 1 for the backward one, whose sequences must be
                reversed beforehand.
            hx: (L, B, .) for each part of the state; zeros if None.

        Raises:
            ValueError: the layer is bidirectional and has several layers.
        """
        if self.num_layers > 1 and self.bidirectional:
            raise ValueError("the directions of several layers cannot be computed apart")
        suffixes = [[layer[number]] for layer in self.suffixes]
        return self._run(input, hx, lengths, first_step, suffixes)  # type: ignore[return-value]  # a tensor gives a tensor

    def _run(
        self, input: Input, hx: States | None, lengths: Lengths, first_step: int, suffixes: Suffixes
    ) -> tuple[Input, States]:
        """Return the output in the form of the input, and the final states (L * D, B, .).

        Args:
            suffixes: for each layer, the suffixes of its directions.
        """
        rows, packing, initial = self._prepare(input, hx, lengths, first_step, suffixes)
        rows, final = self._layers(rows, packing, initial, suffixes)
        if isinstance(input, PackedSequence):
            # torch.compile does not follow _replace.
            order = input.sorted_indices, input.unsorted_indices
            return PackedSequence(rows, input.batch_sizes, *order), final
        if input.dim() == 2:
            output = packing.pad(rows, input.shape[0])
            return output.squeeze(1), tuple([part.squeeze(1) for part in final])
        output = packing.pad(rows, input.shape[1 if self.batch_first else 0])
        return output.transpose(0, 1) if self.batch_first else output, final

    def _prepare(
        self, input: Input, hx: States | None, lengths: Lengths, first_step: int, suffixes: Suffixes
    ) -> tuple[Tensor, Packing, States]:
        """Check the arguments; return packed rows (N, I), their packing and the initial states."""
        if type(first_step) is not int or first_step != 0:
            first_step = check_first_step(first_step, len(suffixes[0]) > 1)
        name = type(self).__name__
        if hx is not None:
            check_states(name, self.step.states, hx)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths: leave lengths=None")
            rows = input.data
            self._check_input(rows, 2)
            packing = Packing.from_packed(input)
            packing.first = first_step
            return rows, packing, initial_states(self, hx, packing, rows, suffixes)

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
            self._check_states_dim(hx, batched)
        if not batched:
            if lengths is not None:
                raise ValueError(
                    "lengths belong to a batch: leave lengths=None for unbatched input"
                )
            input = input.unsqueeze(1)
            hx = None if hx is None else tuple([part.unsqueeze(1) for part in hx])
        elif self.batch_first:
            input = input.transpose(0, 1)
        self._check_input(input, 3)
        steps, batch, _ = input.shape
        if lengths is None:
            packing = Packing.of_equal_lengths(batch, steps, input.device)
        else:
            lengths = check_lengths(lengths, batch, steps, self.batch_first)
            packing = self._packing(input, hx, lengths, suffixes)
        packing.first = first_step
        initial = initial_states(self, hx, packing, input, suffixes)
        return packing.pack(input), packing, initial

    def calls(self, input: Input, lengths: Lengths = None) -> dict[str, DirectionCall]:
        """Return the calls of a backend that this input would make, by the suffix of the direction.

        Nothing is computed: the rows of all layers but the first are zeros.
        """
        rows, packing, initial = self._prepare(input, None, lengths, 0, self.suffixes)
        if self._over_batch and _sharing(self.directions()) is not None:
            packing.totals = packing.batch_sizes  # only the other processes know theirs
        found: dict[str, DirectionCall] = {}
        for layer in self.suffixes:
            for suffix in layer:
                direction = self.direction(suffix)
                rows = rows.new_zeros(len(rows), direction.weight_ih.shape[1]) if found else rows
                state = tuple([part[len(found)] for part in initial])
                found[suffix] = direction, rows, packing, state
        return found

    def _packing(
        self, input: Tensor, hx: States | None, lengths: Tensor, suffixes: Suffixes
    ) -> Packing:
        """Return the packing of a padded batch, for all lengths if a graph's backend allows it."""
        on_cpu = input.device.type == lengths.device.type == "cpu"
        if torch.compiler.is_compiling() and on_cpu and not self._over_batch:
            packing = TensorPacking(lengths, input.shape[0])
            rows, states = packing.pack(input), initial_states(self, hx, packing, input, suffixes)
            state = tuple([part[0] for part in states])
            names = [suffix for layer in suffixes for suffix in layer]
            calls = [(self.direction(suffix), rows, packing, state) for suffix in names]
            if all([backends.choice(*call) is backends.cpu for call in calls]):
                return packing
        return Packing.from_lengths(lengths, input.device)

    def _layers(
        self, rows: Tensor, packing: Packing, initial: States, suffixes: Suffixes
    ) -> tuple[Tensor, States]:
        """Run all layers over packed rows (N, I).

        Args:
            initial: initial states (L * D, B, .) in packed order.

        Returns:
            Packed outputs, and the final states (L * D, B, .) in the user's order.
        """
        # Loops, because comprehensions are calls of their own.
        layers: list[list[Direction]] = []
        for layer in suffixes:
            layers.append([])
            for suffix in layer:
                layers[-1].append(self.direction(suffix))
        if self._over_batch:
            packing = self._with_statistics([one for layer in layers for one in layer], packing)
        finals: list[States] = []
        for directions in layers:
            if finals and self.dropout > 0:
                rows = F.dropout(rows, self.dropout, self.training)
            calls: list[DirectionCall] = []
            for direction in directions:
                if self.recurrent_dropout > 0:
                    weight = direction.weight_hh
                    weight = F.dropout(weight, self.recurrent_dropout, self.training)
                    direction = replace(direction, weight_hh=weight)
                seen = packing.reverse(rows) if calls else rows
                number = len(finals) + len(calls)
                state: States = ()
                for part in initial:
                    state += (part[number],)
                calls.append((direction, seen, packing, state))
            results = self._compute(calls)
            rows = results[0][0]
            if len(results) > 1:
                rows = torch.cat([rows, packing.reverse(results[1][0])], -1)
            for _, final in results:
                finals.append(final)
        states = list(map(torch.stack, zip(*finals)))
        if packing.order is not None:
            states = [packing.unsort(state) for state in states]
        return rows, tuple(states)

    def _with_statistics(self, directions: list[Direction], packing: Packing) -> Packing:
        """Check the batch statistics of a pass, and exchange the numbers of rows.

        Raises:
            IndexError: a norm has no statistics for a step.
        """
        processes = _sharing(directions)
        if processes is not None:
            packing = packing.among(processes.rows(packing.batch_sizes, packing.device))
        for direction in directions:
            direction.check(len(packing.batch_sizes), packing.first)
        # Later parts of long sequences may well have few rows.
        if self.training and not packing.first:
            self._warn_of_few_rows(packing.totals or packing.batch_sizes)
        return packing

    def _compute(self, calls: list[DirectionCall]) -> list[tuple[Tensor, States]]:
        """Run the directions of a layer, in chunks of time if asked."""
        packing, chunks = calls[0][2], self.chunks
        if chunks is None or torch.compiler.is_compiling():
            return backends.run_layer(calls)
        if packing.empty or packing.steps <= chunks.steps:
            return backends.run_layer(calls)
        if packing.totals is not None:
            # The other processes would wait for one that has no rows in a chunk.
            raise ValueError(
                "several processes share the statistics of this layer, which are exchanged for "
                "whole sequences: train it whole, compute_in_chunks(module, None), or by the "
                "statistics of each process, revert_sync_batchnorm(module)"
            )
        return [in_chunks(chunks, *call) for call in calls]


def _sharing(directions: list[Direction]) -> Processes | None:
    """Return the processes with which the norms of a layer share statistics in a pass now."""
    return the_same(found for direction in directions for found in direction.shared_with())
