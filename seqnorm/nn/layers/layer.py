"""Recurrent layers of any step: torch's contract, with norms.

Axes: T steps, B sequences, N packed rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import backends
from ..check import check_flag, check_sizes, warn
from ..graphs import asks_for_torch_alone, outside_of_graphs
from ..recurrence.direction import Direction, DirectionCall, gather, initialise, register
from ..recurrence.packing import Packing
from ..recurrence.presets import resolve
from ..recurrence.scheme import NormScheme
from ..recurrence.step import Step
from ..recurrence.windows import refuse_window
from ..statistics.processes import Processes, the_same
from .arguments import check_step
from .chunks import Chunks, in_chunks, in_pieces
from .exported import export_layer
from .given import Input, Lengths, read, read_any
from .inference import infer_layer
from .initial_states import States, Suffixes
from .stream_calls import RUNNING, answered
from .torch_contract import TorchContract


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
        learn_initial_state: if true, the initial state is learned, see ``seqnorm.LSTM``.

    Raises:
        TypeError, ValueError: a size, probability or norm is invalid.
    """

    _options = (
        *("proj_size", "num_layers", "nonlinearity", "num_heads", "heads", "bias", "batch_first"),
        *("dropout", "bidirectional", "recurrent_dropout", "learn_initial_state"),
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
        learn_initial_state: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # a subclass may derive from a class of torch's too
        self.step = check_step(step)
        self.input_size, self.hidden_size, self.num_layers, self.proj_size = check_sizes(
            input_size, hidden_size, num_layers, proj_size
        )
        if self.proj_size and not step.projects:
            if step.heads and type(step).projects:
                raise ValueError(
                    f"heads={step.heads} divide the H units of h, and proj_size={self.proj_size} "
                    "projects them to others: leave one of the two out"
                )
            raise ValueError(
                f"a {step.name} has no projection, because its step reads h as H units: leave "
                "proj_size=0, or set projects = True in a step that reads only its second argument"
            )
        parts = len(step.states)
        self.state_sizes = (self.proj_size or self.hidden_size, *[self.hidden_size] * (parts - 1))
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
        self.learn_initial_state = check_flag("learn_initial_state", learn_initial_state)
        self.norm = resolve(norm, step)
        self.chunks: Chunks | None = None  # set by ``compute_in_chunks``
        norms = [] if self.norm is None else self.norm.norms.values()
        self.over_batch = any(each.over_batch for each in norms)
        self.counts_steps = any(each.over_batch and not each.over_time for each in norms)
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
        if self.learn_initial_state:
            entries = self.num_layers * len(ends)
            for letter, size in zip(step.states, self.state_sizes):
                if letter not in step.learned:
                    continue
                initial = torch.empty(entries, size, device=device, dtype=dtype)
                self.register_parameter(f"{letter}_0", nn.Parameter(initial))
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
        """Draw all parameters anew and forget all running statistics; learned states are zero."""
        for direction in self.directions():
            initialise(direction, self.hidden_size)
        for letter in self.step.learned if self.learn_initial_state else "":
            nn.init.zeros_(getattr(self, f"{letter}_0"))

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
        first_step: int | Tensor = 0,
        resets: Tensor | PackedSequence | None = None,
        cu_seqlens: Tensor | Sequence[int] | None = None,
    ) -> tuple[Any, Any]:
        """Compute outputs and final states of whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with batch_first, (T, I), or a ``PackedSequence``; without
                padding (N, I) with ``cu_seqlens``, or a nested tensor (B, j, I), layout jagged.
            hx: the initial state: (h_0 (L * D, B, P), c_0 (L * D, B, H)) of an LSTM, h_0 of a step
                whose state is h alone; without B for unbatched input. If None, it is zero, or
                learned with ``learn_initial_state``.
            lengths: (B,) integers in 0..T in any order, for padded input.
            first_step: number of steps that earlier calls have read of the same sequences since
                their last reset, where ``hx`` is their final state; an integer, or (B,) integers,
                one for each sequence. BatchNorm's statistics of every step count from there.
            resets: true where a sequence begins anew, so that the state before that step is the
                initial one and not that of the step before: (T, B), (B, T) with batch_first, (T,)
                unbatched, (N,) for input without padding, or a ``PackedSequence``. A reset at step
                t stands between the steps t - 1 and t in both directions. BatchNorm's statistics of
                every step count from each reset.
            cu_seqlens: (B + 1,) the row at which each sequence begins, and N, for an input (N, I).

        Returns:
            The outputs (T, B, D * P) of the last layer in the form of the input, zero in the
            padding, and the state after the last step of every sequence, in the form of ``hx``.

        Raises:
            TypeError, ValueError, RuntimeError: a shape or dtype is wrong, as torch raises it;
                ``first_step`` is not 0 in a bidirectional layer; or, with ``resets`` and
                BatchNorm's statistics of every step, ``hx`` goes on at an unknown step.
            IndexError: a norm has no statistics for a step, and ``beyond="error"``.
        """
        single = len(self.step.states) == 1
        states: Any = (hx,) if single and hx is not None else hx
        if self.quantised:
            self._refuse_training()
        compiling = torch.compiler.is_compiling()
        if compiling and asks_for_torch_alone():
            padding = cu_seqlens is None
            found = export_layer(self, input, states, lengths, first_step, resets, padding)
            return found[0], found[1][0] if single else found[1]
        record = torch.is_grad_enabled() or compiling
        if not record and RUNNING:
            done = answered(self, input, hx, lengths, first_step, resets, cu_seqlens)
            if done is not None:
                return done
        if lengths is None and cu_seqlens is None and not record:
            short = infer_layer(self, input, states, first_step, resets)
            if short is not None:
                return short[0], short[1][0] if single else short[1]
        nested = isinstance(input, Tensor) and input.is_nested
        plain = resets is None and cu_seqlens is None and not nested
        if plain and type(first_step) is int:
            output, final = self._run(input, states, lengths, first_step, self.suffixes)
        else:
            output, final = self._run_any(input, states, lengths, first_step, resets, cu_seqlens)
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
            ValueError: the layer is bidirectional and has several layers, or a norm has a window
                of several steps.
        """
        refuse_window(
            self.norm,
            "the parts of a sequence would each begin with an empty window",
            "compute the sequences whole, layer(input, hx, lengths)",
        )
        if self.quantised:
            self._refuse_training()
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
        given = read(self, input, hx, lengths, first_step, suffixes)
        return given.result(*self._layers(given.rows, given.packing, given.states, suffixes))

    @outside_of_graphs
    def _run_any(self, *arguments: Any) -> tuple[Any, States]:
        """Compute a call in any form, as ``_run`` does.

        Args:
            arguments: those of ``forward``, in order.
        """
        given = read_any(self, self.suffixes, *arguments)
        return given.result(*self._layers(given.rows, given.packing, given.states, self.suffixes))

    def calls(
        self, input: Input, lengths: Lengths = None, resets: Any = None, cu_seqlens: Any = None
    ) -> dict[str, DirectionCall]:
        """Return the calls of a backend that this input would make, by the suffix of the direction.

        Nothing is computed: the rows of all layers but the first are zeros.
        """
        arguments = input, None, lengths, 0, resets, cu_seqlens
        rows, packing, initial, *_ = read_any(self, self.suffixes, *arguments)
        if self.over_batch and _sharing(self.directions()) is not None:
            packing.totals = packing.batch_sizes  # only the other processes know theirs
        found: dict[str, DirectionCall] = {}
        for layer in self.suffixes:
            for suffix in layer:
                direction = self.direction(suffix)
                rows = rows.new_zeros(len(rows), direction.weight_ih.shape[1]) if found else rows
                state = tuple([part[len(found)] for part in initial])
                found[suffix] = direction, rows, packing, state
        return found

    def _layers(
        self, rows: Tensor, packing: Packing, initial: States, suffixes: Suffixes
    ) -> tuple[Tensor, States]:
        """Run all layers over packed rows (N, I).

        Args:
            initial: initial states (L * D, B, .) in packed order.

        Returns:
            Packed outputs, and the final states (L * D, B, .) in packed order.
        """
        # Loops, because comprehensions are calls of their own.
        layers: list[list[Direction]] = []
        for layer in suffixes:
            layers.append([])
            for suffix in layer:
                layers[-1].append(self.direction(suffix))
        if self.over_batch:
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
        return rows, tuple(map(torch.stack, zip(*finals)))

    def _with_statistics(self, directions: list[Direction], packing: Packing) -> Packing:
        """Check the batch statistics of a pass, and exchange the numbers of rows.

        Raises:
            IndexError: a norm has no statistics for a step.
        """
        processes = _sharing(directions)
        if processes is not None:
            first = None if packing.pieces else packing.first
            packing = packing.among(processes.rows(packing.batch_sizes, first, packing.device))
        parts = [piece.packing for piece in packing.pieces] or [packing]
        for direction in directions:
            for part in parts:
                direction.check(len(part.batch_sizes), part.first)
        # Later parts of long sequences may well have few rows.
        if self.training and not packing.first:
            sizes = [size for part in parts for size in part.batch_sizes]
            self._warn_of_few_rows(packing.totals or sizes)
        return packing

    def _compute(self, calls: list[DirectionCall]) -> list[tuple[Tensor, States]]:
        """Run the directions of a layer, in chunks of time if asked."""
        packing, chunks = calls[0][2], self.chunks
        if packing.pieces:
            return [in_pieces(self._compute, *call) for call in calls]
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
