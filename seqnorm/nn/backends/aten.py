"""PyTorch's own fused layers, for steps without a norm.

Axes: T steps, B sequences, N packed rows, I inputs, H = hidden_size, P = size of h.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..autocast import autocast_dtype, is_autocast
from ..recurrence.direction import Direction
from ..recurrence.packing import Packing, with_ended
from ..recurrence.step import State
from ..statistics.moments import HALF
from .watching import all_plain, counts_operations, is_forward_mode, is_transformed


def status() -> tuple[bool, str]:
    """Return True, as torch's kernels always exist, and a description."""
    return True, "torch's own kernels, for cells without a norm"


def claims(direction: Direction, rows: Tensor, packing: Packing, state: State) -> str | None:
    """Return ``None`` for a call that torch's kernel computes with the same numbers, or why not."""
    if direction.scheme is not None:
        return "torch's fused layer has no norm"
    if direction.step.fused is None:
        if type(direction.step).fused is not None:
            return f"torch's {direction.step.name} has no heads"
        return f"torch has no {direction.step.name} of its own"
    if direction.scales:
        return "torch's fused layer has no weights of int8"
    if any(direction.zoneout):
        return "torch's fused layer has no zoneout"
    if not packing.uniform and rows.device.type == "cpu":
        return "torch's packed path is slower than the time loop on a CPU"
    if packing.empty:
        return "no rows"
    if torch.compiler.is_compiling():
        # On other devices a graph could hold nothing but torch's operator.
        on_cpu = rows.device.type == "cpu"
        return "a graph of torch's fused layer holds for one T and B on a CPU" if on_cpu else None
    given = (*direction.tensors, rows, *state)
    if is_forward_mode() or is_transformed() or not all_plain(given):
        return (
            "torch's fused layer takes plain tensors alone, no subclasses, and neither torch.func "
            "nor forward-mode derivatives"
        )
    if counts_operations():
        return "torch's fused layer does not say how many operations it is"
    if rows.device.type == "cpu" and direction.weight_hr is None:
        cast = autocast_dtype("cpu") if is_autocast("cpu") else None
        if cast is not None or rows.dtype in HALF:
            cell, dtypes = direction.step, (rows.dtype, direction.weight_hh.dtype, state[0].dtype)
            mode = direction.training, torch.is_grad_enabled(), torch._C._get_mkldnn_enabled()
            return _refusal(cell.fused, len(cell.gates), len(state), *dtypes, cast, *mode)
    return None


@functools.cache
def _refusal(
    fused: Any,
    gates: int,
    states: int,
    input: torch.dtype,
    weight: torch.dtype,
    hidden: torch.dtype,
    cast: torch.dtype | None,
    training: bool,
    recording: bool,
    onednn: bool,
) -> str | None:
    """Return the reason if torch has no such layer in half precision on this processor.

    A call on one number finds it out. For an LSTM it depends on the processor, the release of
    oneDNN and the need of gradients, and PyTorch has no other way to ask.
    """
    said: list[str] = []

    def call() -> None:
        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device="cpu")

        shapes = [(gates, 1), (gates, 1), (gates,), (gates,)]
        weights = [zeros(*shape, dtype=weight).requires_grad_() for shape in shapes]
        hx = [zeros(1, 1, 1, dtype=hidden)] * states
        options = True, 1, 0.0, training, False, False
        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(onednn)
        try:
            with torch.set_grad_enabled(recording), torch.autocast("cpu", cast, cast is not None):
                first = hx if states > 1 else hx[0]
                output, *_ = fused(zeros(1, 1, 1, dtype=input), first, weights, *options)
            if recording:
                torch.autograd.grad(output.sum(), weights)
        except RuntimeError as error:
            said.append(str(error).split(". ")[0])
        finally:
            torch._C._set_mkldnn_enabled(before)

    # A new thread has none of the caller's modes and transforms.
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return f"torch's layer fails in half precision on this processor: {said[0]}" if said else None


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Compute packed outputs and final state from packed inputs (N, I) and state (B, P), (B, H)."""
    weights = direction.tensors  # in torch's order
    # Arguments: biases, one layer, no dropout, training, one direction.
    options = (direction.bias_ih is not None, 1, 0.0, direction.training, False)
    running = packing.batch if packing.uniform else packing.batch_sizes[0]
    first = [part[:running].unsqueeze(0) for part in state]
    fused = direction.step.fused
    hx = first if len(first) > 1 else first[0]
    with _unwarned(rows):
        if packing.uniform:
            x = rows.reshape(packing.steps, running, -1)
            outputs, *final = fused(x, hx, weights, *options, False)
        else:
            outputs, *final = fused(rows, packing.sizes(rows), hx, weights, *options)
    # Sequences of length zero keep their state.
    return outputs.reshape(len(rows), -1), with_ended([part.squeeze(0) for part in final], state)


@contextmanager
def _unwarned(rows: Tensor) -> Iterator[None]:
    """Silence cuDNN, which warns at every call that weights are not in one piece of memory.

    They are separate parameters here, and copying them costs little beside the call.
    """
    if rows.device.type == "cpu" or torch.compiler.is_compiling():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield
