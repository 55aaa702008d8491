"""The compiled loop on tensors: results and gradients of one direction.

Axes: T steps, B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

import ctypes
from array import array

import torch
from torch import Tensor

from . import memory
from .library import LIBRARY, VARIANTS, Arguments
from .plan import BIASES, COLUMNS, Inputs, Plan, total

# A thread's part of the products of a step must be worth waking it for.
LEAST_WORK = 32768
_Sizes = ctypes.c_int64 * 2
_PLACES = (("bias_in", "i"), ("bias_x", "x"), ("bias_h", "h"))


class Call:
    """Arguments of the kernels for one pass over some tensors, which it keeps alive."""

    def __init__(self, plan: Plan, inputs: Inputs, keep: bool) -> None:
        input, h_0, sizes = inputs.input, inputs.h_0, plan.sizes
        self._arguments = arguments = Arguments.from_buffer_copy(plan.layout.arguments)
        self._dtype = input.dtype
        self._alive: list[object] = []
        rows = array("q", sizes)
        work = max(sizes) * inputs.weight_hh.numel()
        arguments.T, arguments.B, arguments.I = len(sizes), h_0.shape[0], input.shape[1]
        arguments.threads = max(1, min(torch.get_num_threads(), work // LEAST_WORK))
        arguments.rows, arguments.keep = rows.buffer_info()[0], keep
        self._alive.append(rows)
        for term in plan.own(inputs):
            setattr(arguments, "own_" + term, 1)
        for part, p in zip("hc", plan.zoneout):
            setattr(arguments, "zoneout_" + part, p)
        for name, tensor in zip(Inputs._fields[:BIASES], inputs):
            self.give(name, tensor)
        for name, place in _PLACES:
            self.give(name, plan.added(place, inputs))

    def give(self, name: str, tensor: Tensor | None) -> None:
        """Hand over a tensor, row by row, under its name in ``Arguments``."""
        if tensor is None:
            return
        if tensor.dtype != self._dtype or not tensor.is_cpu:
            raise RuntimeError(
                f"{name} is {tensor.dtype} on {tensor.device}, the input {self._dtype} on the CPU: "
                "convert one to the other"
            )
        tensor = tensor.contiguous()
        self._alive.append(tensor)
        setattr(self._arguments, name, tensor.data_ptr())

    def run(self, backward: bool, kept: Tensor | None = None) -> Tensor:
        """The pass; what is kept of the forward pass, in bytes, beginning with x (N, G * H)."""
        which = list(VARIANTS.values())[-1], int(self._dtype == torch.float64)
        pointer, sizes = ctypes.byref(self._arguments), _Sizes()
        LIBRARY.seqnorm_sizes(*which, pointer, backward, sizes)
        scratch = memory.take(sizes[0])
        if kept is None:
            kept = memory.take(sizes[1])
        elif kept.numel() < sizes[1]:
            raise RuntimeError(f"what is kept takes {sizes[1]} bytes, got {kept.numel()}")
        self._arguments.scratch, self._arguments.kept = scratch.data_ptr(), kept.data_ptr()
        (LIBRARY.seqnorm_backward if backward else LIBRARY.seqnorm_forward)(*which, pointer)
        memory.give(scratch)
        return kept


def kept_width(plan: Plan, inputs: Inputs) -> int:
    """Reals that are kept of each packed row, as ``place_kept`` of ``src/loop.c`` counts them."""
    wide, hidden = inputs.weight_hh.shape
    layout, lstm = plan.layout, inputs.c_0 is not None
    zoneout = inputs.stay_c is not None or any(plan.zoneout[1:])
    return (
        wide * (inputs.weight_ih is not None or layout.joined)
        + (4 * len(layout.sets) + 2) * (not layout.batch)
        + wide * (not layout.joined)
        + hidden * lstm
        + hidden * zoneout
    )


def compute(
    plan: Plan, inputs: Inputs, keep: bool, kept: Tensor | None = None
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The results of ``recurrence``, and with ``keep`` what the gradients need of this pass: bytes
    of spare memory, or ``kept`` if that is given."""
    input, h_0, c_0 = inputs.input, inputs.h_0, inputs.c_0
    call = Call(plan, inputs, keep)
    results = {"output": input.new_empty(input.shape[0], h_0.shape[1])}
    copy = torch.contiguous_format
    results["h_n"] = h_0.detach().clone(memory_format=copy)
    if c_0 is not None:
        results["c_n"] = c_0.detach().clone(memory_format=copy)
    for term in plan.own(inputs):
        width = h_0.shape[1] if term == "c" else inputs.weight_hh.shape[0]
        results["columns_" + term] = input.new_empty(len(plan.sizes), 2, width)
        results["var_" + term] = input.new_empty(len(plan.sizes), width)
    for name, tensor in results.items():
        call.give(name, tensor)
    kept = call.run(False, kept)
    if not keep:
        memory.give(kept)
    return tuple(results.values()), kept if keep else None


def compute_gradients(
    plan: Plan,
    inputs: Inputs,
    results: tuple[Tensor, ...],
    kept: Tensor,
    grads: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of all inputs from those of the results. What is ``kept`` is used up."""
    input, weight_ih, weight_hh, h_0, c_0, *_ = inputs
    (rows, width), (wide, hidden) = input.shape, weight_hh.shape
    call = Call(plan, inputs, keep=True)
    statistics = iter(results[len(plan.cell.states) + 1 :])
    for term in plan.own(inputs):
        call.give("columns_" + term, next(statistics))
        call.give("var_" + term, next(statistics))
    sums = input.new_empty(4 * wide + 2 * hidden)
    places: dict[str, Tensor | None] = {
        "grad_output": _dense(grads[0], results[0]),
        "grad_h": _dense(grads[1], h_0, copy=True),
        "grad_c": None if c_0 is None else _dense(grads[2], c_0, copy=True),
        "grad_weight_hh": weight_hh.new_empty(weight_hh.shape) if needed[2] else None,
    }
    grad_x = kept.view(input.dtype)[: rows * wide].view(rows, wide)
    if weight_ih is not None:
        places["grad_input"] = input.new_empty(rows, width) if needed[0] else None
        places["grad_weight_ih"] = weight_ih.new_empty(weight_ih.shape) if needed[1] else None
    elif not plan.layout.joined:
        places["grad_x"] = grad_x = input.new_empty(rows, wide)
    for name, tensor in (*places.items(), ("output", results[0]), ("grad_sums", sums)):
        call.give(name, tensor)
    call.run(True, kept)
    gain_x, gain_h, bias_x, bias_h = sums[: 4 * wide].view(4, -1).unbind()
    gain_c, bias_c = sums[4 * wide :].view(2, -1).unbind()
    of_place = {"x": bias_x, "h": bias_h}
    if any("i" in place for place in plan.layout.places):
        of_place["i"] = grad_x.sum(0)
    found: list[Tensor | None] = [
        grad_x if weight_ih is None else places["grad_input"],
        *(places.get(name) for name in ("grad_weight_ih", "grad_weight_hh", "grad_h", "grad_c")),
        *(gain_x, gain_h, gain_c, bias_c),
        *(None,) * (BIASES - COLUMNS),  # of what was given or drawn
    ]
    found += [total([of_place[letter] for letter in place]) for place in plan.layout.places]
    if weight_ih is not None or not plan.layout.joined:  # else grad_x stands there
        memory.give(kept)
    return [grad if need else None for need, grad in zip(needed, found)]


def _dense(grad: Tensor | None, like: Tensor, copy: bool = False) -> Tensor:
    if grad is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return grad.clone(memory_format=torch.contiguous_format) if copy else grad
