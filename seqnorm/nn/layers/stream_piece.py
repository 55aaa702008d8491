"""One piece of a stream: the states that its layers are given, and those that they leave.

Axes: t steps of the piece, B streams, F features of a state, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .initial_states import own_states
from .layer import RecurrentLayer
from .resets import anew, steps_since_reset
from .stream_memory import Memory, Whole, parts_of


class Piece:
    """A call of a stream, which gives every recurrent layer its state and takes the next one.

    Args:
        before: the memory of the streams.
        paths: the paths of the recurrent layers.
        shape: t and B.
        swapped: true if the piece is (B, t, ...).
        batched: false if it is (t, ...).
        lengths: (B,), or None for t steps of every stream.
        resets: in the form of the piece, or None.
    """

    def __init__(
        self,
        before: Memory,
        paths: Mapping[RecurrentLayer, str],
        shape: tuple[int, int],
        swapped: bool,
        batched: bool,
        lengths: Tensor | None,
        resets: Tensor | None,
    ) -> None:
        self._before = before
        self._paths = paths
        self._shape = shape
        self._swapped = swapped
        self._batched = batched
        self._lengths = lengths
        self._resets = resets
        self._states: dict[str, Any] = {}
        self._inside = False  # a call of a layer, which is being answered

    def answer(
        self,
        layer: RecurrentLayer,
        input: Any,
        hx: Any = None,
        lengths: Any = None,
        first_step: Any = 0,
        resets: Any = None,
        cu_seqlens: Any = None,
    ) -> tuple[Any, Any] | None:
        """Return the result of a layer that goes on from its state, see ``Answering``."""
        path = self._paths.get(layer)
        if path is None or self._inside:
            return None
        if path in self._states:
            raise RuntimeError(
                f"{path} is called a second time for one piece, and a stream keeps one state of "
                "it: give each place a layer of its own, and each call all steps of the piece"
            )
        if layer.training:
            refuse_training(path)
        if resets is not None and self._resets is None and layer.counts_steps:
            raise ValueError(
                f"{path} is given resets by the model, after which BatchNorm's steps count anew, "
                "and the stream does not know them: give them to the stream, "
                "stream(x, resets=resets)"
            )
        if hx is not None and self._resets is not None:
            raise ValueError(
                f"{path} is given its first state by the model, which the stream knows for the "
                "beginning of a piece alone, and resets would begin with the layer's own: leave "
                "resets=None, and call stream.reset(rows) between pieces"
            )
        dims = 3
        if isinstance(input, PackedSequence):
            if self._resets is not None and resets is None:
                raise ValueError(
                    f"{path} is given a PackedSequence, in whose order the resets are not: give it "
                    "the padded piece, and lengths"
                )
        else:
            if isinstance(input, Tensor):
                self._check_shape(path, layer, input, cu_seqlens)
                dims = input.dim()
            lengths = self._lengths if lengths is None else lengths
            if resets is None and self._resets is not None:
                resets = self._resets
                if resets.dim() == 2 and layer.batch_first != self._swapped:
                    resets = resets.T
        hx = self._state(path, layer, hx, dims)
        first_step = 0
        if layer.counts_steps:
            first_step = self._before.steps
            if resets is not None:  # a number 0 would say that nobody knows it
                first_step = torch.as_tensor(first_step, device="cpu").expand(self._shape[1])
        self._inside = True
        try:
            found = RecurrentLayer.forward(
                layer, input, hx, lengths, first_step=first_step, resets=resets
            )
        finally:
            self._inside = False
        self._states[path] = found[1]
        return found

    def _check_shape(self, path: str, layer: RecurrentLayer, x: Tensor, cu_seqlens: Any) -> None:
        steps, batch = self._shape
        wanted = (batch, steps) if layer.batch_first else (steps, batch)
        single = not self._batched and x.dim() == 2
        if x.is_nested or cu_seqlens is not None:
            raise ValueError(
                f"{path or 'the layer'} is given sequences without padding, and a piece is padded: "
                "pad it, and give lengths"
            )
        if x.shape[:-1] != (wanted if not single else (steps,)):
            letters = "(B, t, .)" if layer.batch_first else "(t, B, .)"
            raise ValueError(
                f"{path or 'the layer'} must be given the {steps} steps of {batch} streams, "
                f"{letters} = {(*wanted, x.shape[-1])}, and is given {tuple(x.shape)}: a model of "
                "a stream has one step for each step of its input"
            )

    def _state(self, path: str, layer: RecurrentLayer, given: Any, dims: int) -> Any:
        """Return the state with which a layer begins the piece.

        Args:
            given: the state that the model gives it, with which streams begin, or None.
            dims: the number of axes of the state that the layer takes, 3 or, without B, 2.
        """
        before = self._before
        if before.fresh is True:
            return given
        carried = parts_of(before.states[path])
        if dims == 2 and carried[0].dim() == 3:  # as it was saved
            carried = tuple([part.squeeze(1) for part in carried])
        if isinstance(before.fresh, Tensor):
            fresh = before.fresh.to(carried[0].device)
            own = own_states(layer, carried[0], layer.suffixes)
            if given is not None:
                own = parts_of(given)
                if [part.shape for part in own] != [part.shape for part in carried]:
                    return given  # the layer says so
            carried = anew(carried, own, fresh)
        return carried if len(carried) > 1 else carried[0]

    def after(self) -> Memory:
        """Return the memory of the streams after the piece.

        Raises:
            RuntimeError: a layer was not called.
        """
        before, (steps, batch) = self._before, self._shape
        if not steps:
            return before
        for path in self._paths.values():
            if path not in self._states:
                raise RuntimeError(
                    f"{path} was not called for this piece, or in another thread or with gradients "
                    "enabled, so its state does not go on: a model of a stream calls each of its "
                    "recurrent layers for every piece"
                )
        lengths, resets = self._lengths, self._resets
        if lengths is None and resets is None:
            return Memory(self._states, False, before.steps + steps)
        numbers = torch.as_tensor(before.steps, device="cpu").expand(batch)
        fresh = torch.as_tensor(before.fresh, device="cpu").expand(batch)
        ended = torch.full((batch,), steps, device="cpu") if lengths is None else lengths.cpu()
        fresh = fresh & (ended == 0)
        if resets is None:
            numbers = numbers + ended
        else:
            swapped = resets.dim() == 2 and self._swapped
            numbers = steps_since_reset(resets, numbers, lengths, batch_first=swapped).cpu()
        return Whole(self._states, fresh, numbers.expand(batch)).settled()


def refuse_training(path: str) -> None:
    """Raise the error of a model in training mode."""
    raise ValueError(
        f"{path or 'the model'} is in training mode, and a stream is for inference: call "
        "model.eval() first; training on parts of a sequence is layer(x, hx, first_step=...)"
    )
