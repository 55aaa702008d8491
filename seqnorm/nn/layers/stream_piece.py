"""One piece of a stream: the states that its layers are given, and those that they leave.

Axes: t steps of the piece, B streams, F features of a state, L layers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        layers: the recurrent layers by their paths.
        shape: t and B.
        swapped: true if the piece is (B, t, ...).
        batched: false if it is (t, ...).
        lengths: (B,), or None for t steps of every stream.
        resets: in the form of the piece, or None.
    """

    def __init__(
        self,
        before: Memory,
        layers: Mapping[str, RecurrentLayer],
        shape: tuple[int, int],
        swapped: bool,
        batched: bool,
        lengths: Tensor | None,
        resets: Tensor | None,
    ) -> None:
        self._before = before
        self._layers = layers
        self._paths = {layer: path for path, layer in layers.items()}
        self._shape = shape
        self._swapped = swapped
        self._batched = batched
        self._lengths = lengths
        self._resets = resets
        self._states: dict[str, Any] = {}
        self._thread = threading.get_ident()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Give the layers their states within the context, whoever calls them in this thread."""
        handles = []
        try:
            for layer in self._layers.values():
                # Ours is the last to see the arguments and the first to see the output.
                handles.append(layer.register_forward_pre_hook(self._give, with_kwargs=True))
                handles.append(layer.register_forward_hook(self._take, prepend=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def call(self, layer: RecurrentLayer, x: Tensor) -> Tensor:
        """Return the output of a layer that is the whole model."""
        arguments = self._arguments("", layer, {"input": x})
        output, self._states[""] = layer(**arguments)
        return output  # type: ignore[no-any-return]  # a tensor gives a tensor

    def _give(
        self, layer: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if threading.get_ident() != self._thread:
            return None  # another thread calls the same layer for itself
        path = self._paths[layer]
        if path in self._states:
            raise RuntimeError(
                f"{path} is called a second time for one piece, and a stream keeps one state of "
                "it: give each place a layer of its own, and each call all steps of the piece"
            )
        self._states[path] = None
        given = {**dict(zip(("input", "hx", "lengths"), args)), **options}
        return (), self._arguments(path, layer, given)

    def _take(self, layer: Any, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._states[self._paths[layer]] = output[1]

    def _arguments(self, path: str, layer: RecurrentLayer, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a layer's call, from those that the model gives it."""
        x = given["input"]
        if layer.training:
            refuse_training(path)
        packed = isinstance(x, PackedSequence)
        if not packed and isinstance(x, Tensor):
            self._check_shape(path, layer, x, given)
        given["hx"] = self._state(path, layer, given.get("hx"), 3 if packed else x.dim())
        if self._lengths is not None and not packed and given.get("lengths") is None:
            given["lengths"] = self._lengths
        resets = self._resets
        if resets is not None and given.get("resets") is None:
            swap = resets.dim() == 2 and layer.batch_first != self._swapped
            given["resets"] = resets.T if swap else resets
        if layer.counts_steps:
            steps = self._before.steps
            if given.get("resets") is not None:  # a number 0 would say that nobody knows it
                steps = torch.as_tensor(steps, device="cpu").expand(self._shape[1])
            given["first_step"] = steps
        return given

    def _check_shape(
        self, path: str, layer: RecurrentLayer, x: Tensor, given: dict[str, Any]
    ) -> None:
        steps, batch = self._shape
        wanted = (batch, steps) if layer.batch_first else (steps, batch)
        single = not self._batched and x.dim() == 2
        if x.is_nested or given.get("cu_seqlens") is not None:
            raise ValueError(
                f"{path or 'the layer'} is given sequences without padding, and a piece is padded: "
                "pad it, and give lengths"
            )
        if tuple(x.shape[:-1]) != (wanted if not single else (steps,)):
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
        if path not in before.states:
            raise RuntimeError(
                f"{path} was not called for the pieces before this one, so there is no state of "
                "it: a model of a stream calls the same layers for every piece"
            )
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
        for path in before.states:
            if path not in self._states:
                raise RuntimeError(
                    f"{path} was not called for this piece, so its state does not go on: a model "
                    "of a stream calls the same layers for every piece"
                )
        if not steps:
            return before
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
