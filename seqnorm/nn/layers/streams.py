"""Streams: sequences that arrive in pieces, with the states of a model kept between the pieces.

Axes: t steps of a piece, B streams, I = input_size, F features of a state, L layers.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any, Union

import torch
from torch import Tensor, nn

from ..autocast import is_autocast
from ..check import check_flag, check_not_negative
from ..recurrence.int8 import dtype_of
from ..statistics.masks import check_lengths
from .resets import check_resets
from .stream_calls import RUNNING
from .stream_checks import check_example, output_of, refuse_mixing, streamed_layers
from .stream_memory import BEGINNING, Memory, Whole, numbers_of, parts_of, read
from .stream_piece import Piece, refuse_training

Rows = Union[int, Sequence[int], Sequence[bool], Tensor]


class Stream:
    """Compute a model on sequences that arrive in pieces of any length.

    The outputs of the pieces, one after another, are those of the whole sequences in one call. The
    state of every recurrent layer is kept from piece to piece, and BatchNorm's statistics of every
    step count from the beginning of each stream.

    >>> lstm = seqnorm.LSTM(8, 16, norm="layer").eval()
    >>> stream = seqnorm.Stream(lstm, batch=2)
    >>> x = torch.randn(7, 2, 8)
    >>> pieces = [stream(x[:3]), stream(x[3:4]), stream(x[4:])]
    >>> bool(torch.allclose(torch.cat(pieces), lstm(x)[0], atol=1e-3))
    True

    The model is a recurrent layer of seqnorm, or a module that contains such layers and computes
    everything else for each step by itself, such as Linear, LSTM, Linear. A state that the module
    gives a layer is the one with which streams begin. Each layer is called once for a piece. The
    model must be in inference mode, and there are no gradients.

    Args:
        model: The model, whose parameters are shared and not copied.
        batch: B, the number of streams; or None for one stream without an axis of the batch.
        batch_first: True if a piece is (B, t, ...) and not (t, B, ...); None for the order of the
            recurrent layers.
        example: An input of the model with two steps or more, in the form of a piece with any
            number of streams. It is computed whole and step by step, and a model with different
            outputs is refused. A model with convolutions or other modules that may read several
            steps is refused without it.

    Raises:
        TypeError: ``model`` is not a module, or ``batch`` is not an integer.
        ValueError: A layer is bidirectional, has a window of several steps, or is torch's own; a
            module may read several steps; or the outputs for the example differ.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: int | None = None,
        *,
        batch_first: bool | None = None,
        example: Tensor | None = None,
    ) -> None:
        self._layers = streamed_layers(model)
        self._model = model
        self._paths = {layer: path for path, layer in self._layers.items()}
        self._alone = self._layers.get("")
        self._batch = None if batch is None else check_not_negative("batch", batch)
        orders = {layer.batch_first for layer in self._layers.values()}
        if self._alone is not None and batch_first not in (None, self._alone.batch_first):
            raise ValueError(
                f"the layer has batch_first={self._alone.batch_first}: leave batch_first=None"
            )
        if batch_first is None and len(orders) > 1:
            raise ValueError(
                "the recurrent layers have batch_first=True and False: say which order the input "
                "of the model has, Stream(model, batch_first=...)"
            )
        self._swapped = (
            min(orders) if batch_first is None else check_flag("batch_first", batch_first)
        )
        known = inspect.signature(model.forward).parameters
        self._takes = [name for name in ("lengths", "resets") if name in known]
        self._time = 1 if self._swapped and self._batch is not None else 0
        self._axes = 1 if self._batch is None else 2  # of a piece, before those of a step
        self._memory = BEGINNING
        if example is None:
            refuse_mixing(model)
        else:
            check_example(lambda: self._probe(example), example, self._time)

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self._model

    @property
    def batch(self) -> int | None:
        """The number of streams B, or None for one without an axis of the batch."""
        return self._batch

    @property
    def steps(self) -> Tensor:
        """The number of steps (B,) of every stream since it began or was reset."""
        return torch.as_tensor(self._memory.steps, device="cpu").expand(self._streams).clone()

    @property
    def _streams(self) -> int:
        return 1 if self._batch is None else self._batch

    def __repr__(self) -> str:
        of = "" if self._batch is None else f", batch={self._batch}"
        return f"Stream({type(self._model).__name__}{of}, steps={self.steps.tolist()})"

    def __call__(
        self,
        x: Tensor,
        *args: Any,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Return the outputs of the next steps of every stream.

        If there is an error, the streams stay as they were.

        Args:
            x: The piece (t, B, I), (B, t, I) with ``batch_first``, or (t, I) without a batch; the
                input of another module may have other axes after the first two, or none.
            args, options: Further arguments of the model.
            lengths: (B,) integers in 0..t, the number of new steps of each stream; t if None. A
                model whose ``forward`` has an argument of this name is given them, too.
            resets: (t, B), (B, t) or (t,), true where a stream begins anew before a step; also
                given to a model whose ``forward`` has an argument of this name. A model that gives
                a layer its first state takes none: call ``reset(rows)`` between pieces.

        Returns:
            The outputs of a layer, zero after the lengths, without its final state; or all that
            another module returns, whose outputs after the lengths mean nothing.

        Raises:
            TypeError, ValueError, RuntimeError: The piece, the lengths or the resets do not fit;
                the model is in training mode; a layer is called twice or is left out; or the
                outputs do not have the steps of the piece.
            IndexError: A norm has no statistics for a step, and ``beyond="error"``.
        """
        # torch.no_grad() takes 2 us, a tenth of a step of a small layer.
        recording = torch.is_grad_enabled()
        if recording:
            torch._C._set_grad_enabled(False)
        try:
            return self._run(x, args, lengths, resets, options)
        except (RuntimeError, ValueError) as error:
            self._explain(error)
            raise
        finally:
            if recording:
                torch._C._set_grad_enabled(True)

    def _run(
        self, x: Tensor, args: tuple[Any, ...], lengths: Any, resets: Any, options: dict[str, Any]
    ) -> Any:
        layer, memory = self._alone, self._memory
        steps = self._check_piece(x)
        if self._model.training:
            refuse_training("")
        # The usual case of a layer, in as few operations as it can be.
        plain = lengths is None and resets is None and not args and not options
        if layer is not None and plain and type(memory.fresh) is bool and steps:
            first = memory.steps if layer.counts_steps else 0
            output, state = layer(x, memory.states.get(""), first_step=first)
            self._memory = Memory({"": state}, False, memory.steps + steps)
            return output
        if lengths is not None:
            if self._batch is None:
                raise ValueError("lengths belong to a batch: leave lengths=None for one stream")
            order = None if layer is None else layer.batch_first
            lengths = check_lengths(lengths, self._batch, steps, order)
        if resets is not None:
            letters = "t," if self._batch is None else "B, t" if self._swapped else "t, B"
            check_resets(resets, tuple(x.shape[: self._axes]), letters)
        fewer = None if lengths is None or bool((lengths == steps).all()) else lengths
        shape, batched = (steps, self._streams), self._batch is not None
        piece = Piece(memory, self._paths, shape, self._swapped, batched, fewer, resets)
        result: Any
        if layer is not None:
            if args or options:
                further = ", ".join(options) or f"{len(args)} more"
                raise TypeError(
                    f"a stream of a layer takes a piece, lengths and resets, got {further}: the "
                    "state and the number of the first step are its own"
                )
            result = self._called(piece, x)[0]
        else:
            for name, value in (("lengths", lengths), ("resets", resets)):
                if value is not None and name in self._takes:
                    options[name] = value
            result = self._called(piece, x, *args, **options)
            self._check_output(result, x)
        self._memory = piece.after()
        return result

    def _called(self, piece: Piece, *args: Any, **options: Any) -> Any:
        """Call the model, whose layers are answered by the piece."""
        thread = get_ident()
        before = RUNNING.get(thread)  # the stream of a model that calls this one
        RUNNING[thread] = piece
        try:
            return self._model(*args, **options)
        finally:
            if before is None:
                del RUNNING[thread]
            else:
                RUNNING[thread] = before

    def _check_piece(self, x: Any) -> int:
        """Return t, or raise if the piece does not have steps of these streams."""
        if not isinstance(x, Tensor) or x.is_nested:
            got = "a nested tensor" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"a piece must be a Tensor, got {got}: pad it, and give lengths")
        batch, time, axes = self._batch, self._time, x.dim()
        fits = axes == self._axes + 1 or (axes >= self._axes and self._alone is None)
        if fits and (batch is None or x.shape[1 - time] == batch):
            return x.shape[time]
        letters = "t" if batch is None else f"{batch}, t" if self._swapped else f"t, {batch}"
        features = "..." if self._alone is None else str(self._alone.input_size)
        hint = ""
        if batch is not None and axes > 1 and x.shape[time] == batch:
            hint = f": the stream has batch_first={self._swapped}"
        elif batch is None and axes == 3:
            hint = ": a stream with an axis of the batch is Stream(model, batch=...)"
        elif batch == 1 and axes == 2:
            hint = ": a stream without an axis of the batch is Stream(model)"
        raise ValueError(
            f"a piece must be ({letters}, {features}), the next steps of "
            f"{'one stream' if batch is None else f'{batch} streams'}, got {tuple(x.shape)}{hint}"
        )

    def _check_output(self, result: Any, x: Tensor) -> None:
        """Raise ValueError if the model returns outputs of other steps than those of the piece."""
        output = output_of(result)
        if output is not None and output.shape[: self._axes] != x.shape[: self._axes]:
            raise ValueError(
                f"the model returns {tuple(output.shape)} for a piece {tuple(x.shape)}, and a "
                "model of a stream has an output for each step: stream the part before the steps "
                "are put together, and compute the rest of its outputs"
            )

    def _explain(self, error: Exception) -> None:
        """Raise an error that says so if the model had another dtype or device before."""
        for path, hx in self._memory.states.items():
            layer, state = self._layers[path], parts_of(hx)[0]
            device, dtype = layer.weight_ih_l0.device, dtype_of(layer, "weight_ih_l0")
            half = state.dtype != dtype and is_autocast(device.type)
            if (state.dtype != dtype and not half) or state.device != device:
                raise RuntimeError(
                    f"the states of this stream are {state.dtype} on {state.device}, and the model "
                    f"is now {dtype} on {device}: "
                    "stream.load_state_dict(stream.state_dict()) converts them, and "
                    "stream.reset() begins anew"
                ) from error

    def reset(self, rows: Rows | None = None) -> None:
        """Begin streams anew, from their initial states.

        Args:
            rows: The numbers of the streams, or (B,) booleans, true for those that begin anew; None
                for all.

        Raises:
            TypeError, ValueError, IndexError: The rows are not numbers of streams.
        """
        if rows is None:
            self._memory = BEGINNING
            return
        self._memory = self._settled(self._whole().renewed(numbers_of(rows, self._streams)))

    def select(self, rows: Rows) -> Stream:
        """Return a stream of some of these streams, which go on there, in the order of ``rows``.

        This stream stays as it is.

        Args:
            rows: The numbers of the streams, or (B,) booleans, true for those that are taken.

        Raises:
            TypeError, ValueError, IndexError: The rows are not numbers of streams, or this stream
                has no axis of the batch.
        """
        if self._batch is None:
            raise ValueError("this stream has no axis of the batch: build it with batch=1")
        return self._of(self._whole().select(numbers_of(rows, self._batch)))

    def join(self, *others: Stream) -> Stream:
        """Return a stream of these streams followed by those of other streams of the same model.

        All of them stay as they are. ``stream.join(seqnorm.Stream(model, batch=2))`` has two
        further streams that begin.

        Args:
            others: Streams of the same model.

        Raises:
            TypeError, ValueError: Another one is not a stream of the same model.
        """
        for other in others:
            if not isinstance(other, Stream):
                raise TypeError(f"join takes Streams, got {type(other).__name__}")
            same = other._model is self._model and other._swapped == self._swapped
            if not same:
                raise ValueError(
                    "the streams to join must be of the same model and order of axes: build the "
                    "other one as Stream(stream.model, ...)"
                )
        return self._of(Whole.joined([one._whole() for one in (self, *others)]))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the streams keep, as tensors, which later pieces do not change.

        Returns:
            "steps" (B,), the number of steps of every stream; "fresh" (B,), true for streams that
            begin with their next step; and, for each layer and letter of its state, as "h" or
            "encoder.lstm.c", the state (L, B, F). Streams without a step have no states.
        """
        return self._whole().tensors(self._layers)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on where streams of the same model and the same B were saved.

        States are converted to the dtype and moved to the device of the layers.

        Args:
            state_dict: The result of ``state_dict``.

        Raises:
            TypeError, ValueError, KeyError: A tensor is missing, unknown, or of another shape.
        """
        self._memory = self._settled(read(state_dict, self._layers, self._streams))

    def _whole(self) -> Whole:
        return self._memory.whole(self._streams)

    def _settled(self, memory: Whole) -> Memory:
        if self._alone is not None and self._batch is None:  # whose states have no such axis
            states = {
                path: tuple([part.squeeze(1) for part in parts])
                for path, parts in memory.states.items()
            }
            memory = memory._replace(states=states)
        return memory.settled()

    def _of(self, memory: Whole) -> Stream:
        """Return other streams of the same model, with an axis of the batch."""
        found = copy.copy(self)
        found._batch = len(memory.fresh)
        found._time, found._axes = int(self._swapped), 2
        found._memory = memory.settled()
        return found

    def _probe(self, example: Any) -> Stream:
        """Return streams of the same model that begin, as many as an example has."""
        found = copy.copy(self)
        if self._batch is not None and isinstance(example, Tensor) and example.dim() > 1:
            found._batch = example.shape[1 - self._time]
        return found
