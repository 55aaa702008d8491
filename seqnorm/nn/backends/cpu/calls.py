"""The compiled loop on tensors: results and gradients of one direction.

Axes: T steps, B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from . import library, memory
from .library import LIBRARY, Arguments
from .plan import BIASES, COLUMNS, Inputs, Plan, total

# A thread's part of the products of a step must be worth waking it for.
LEAST_WORK = 32768
_Sizes = ctypes.c_int64 * 2
_Pointer = ctypes.POINTER(Arguments)
_PLACES = (("bias_in", "i"), ("bias_x", "x"), ("bias_h", "h"))


class Call:
    """Arguments of the kernels for one pass over some tensors, which it keeps alive.

    Args:
        keep: whether the pass is for a backward pass, or is one.
        kept: bytes for what the backward pass needs, beginning with x (N, G * H); of spare memory
            if None.
    """

    def __init__(self, plan: Plan, inputs: Inputs, keep: bool, kept: Tensor | None) -> None:
        plan.check(inputs)
        input, h_0, sizes = inputs.input, inputs.h_0, plan.sizes
        self.arguments = arguments = Arguments.from_buffer_copy(plan.layout.arguments)
        self.dtype = input.dtype
        self.kept = kept
        self.work = max(sizes) * inputs.weight_hh.numel()
        self._alive: list[object] = []
        rows = array("q", sizes)
        arguments.T, arguments.B, arguments.I = len(sizes), h_0.shape[0], input.shape[1]
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
        if tensor.dtype != self.dtype or not tensor.is_cpu:
            raise RuntimeError(
                f"{name} is {tensor.dtype} on {tensor.device}, the input {self.dtype} on the CPU: "
                "convert one to the other"
            )
        if tensor.is_neg():  # a view whose memory holds the numbers with the other sign
            tensor = tensor.resolve_neg()
        tensor = tensor.contiguous()
        address = tensor.data_ptr()
        if not address and tensor.numel():
            raise RuntimeError(f"{name} has no memory: its storage was freed, or is symbolic")
        self._alive.append(tensor)
        setattr(self.arguments, name, address)


def run(calls: Sequence[Call], backward: bool) -> None:
    """A pass of calls of one dtype, at the same time where there are threads for each."""
    which = library.VARIANTS[library.CHOSEN], int(calls[0].dtype == torch.float64)
    work = sum(call.work for call in calls)
    threads = max(1, min(torch.get_num_threads(), work // LEAST_WORK))
    sizes, scratches = _Sizes(), []
    for call in calls:
        call.arguments.threads = -(-threads // len(calls))
        LIBRARY.seqnorm_sizes(*which, ctypes.byref(call.arguments), backward, sizes)
        scratches.append(memory.take(sizes[0]))
        if call.kept is None:
            call.kept = memory.take(sizes[1])
        elif call.kept.numel() < sizes[1]:
            raise RuntimeError(f"what is kept takes {sizes[1]} bytes, got {call.kept.numel()}")
        call.arguments.scratch, call.arguments.kept = scratches[-1].data_ptr(), call.kept.data_ptr()
    pointers = (_Pointer * len(calls))(*(ctypes.pointer(call.arguments) for call in calls))
    kernel = LIBRARY.seqnorm_backward if backward else LIBRARY.seqnorm_forward
    kernel(*which, pointers, len(calls), threads)
    for scratch in scratches:
        memory.give(scratch)


def kept_width(plan: Plan, inputs: Inputs) -> int:
    """Reals that are kept of each packed row, as ``place_kept`` of ``src/loop.c`` counts them."""
    wide, hidden = inputs.weight_hh.shape
    layout, lstm = plan.layout, inputs.c_0 is not None
    zoneout = inputs.stay_c is not None or any(plan.zoneout[1:])
    # Not as products with a truth value, which the symbolic sizes of torch 2.3 do not take.
    parts = (
        (wide, inputs.weight_ih is not None or layout.joined),
        (4 * len(layout.sets) + 2, not layout.batch),
        (wide, not layout.joined),
        (hidden, lstm),
        (hidden, zoneout),
    )
    return sum(width for width, there in parts if there)


class Forward:
    """A forward pass: what it is to be given and will have found.

    Attributes:
        results: of ``recurrence``, filled when the call has run.
    """

    def __init__(self, plan: Plan, inputs: Inputs, keep: bool, kept: Tensor | None = None) -> None:
        input, h_0, c_0 = inputs.input, inputs.h_0, inputs.c_0
        self.plan = plan
        self.call = Call(plan, inputs, keep, kept)
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
            self.call.give(name, tensor)
        self.results = tuple(results.values())

    def kept(self) -> Tensor:
        """What the gradients need of the pass."""
        assert self.call.kept is not None
        return self.call.kept


class Backward:
    """A backward pass, which uses up what was ``kept``."""

    def __init__(
        self,
        plan: Plan,
        inputs: Inputs,
        results: tuple[Tensor, ...],
        kept: Tensor,
        grads: tuple[Tensor | None, ...],
        needed: tuple[bool, ...],
    ) -> None:
        self.plan, self._inputs, self._kept, self._needed = plan, inputs, kept, needed
        input, weight_ih, weight_hh, h_0, c_0, *_ = inputs
        (rows, width), (wide, hidden) = input.shape, weight_hh.shape
        self.call = call = Call(plan, inputs, True, kept)
        statistics = iter(results[len(plan.cell.states) + 1 :])
        for term in plan.own(inputs):
            call.give("columns_" + term, next(statistics))
            call.give("var_" + term, next(statistics))
        self._sums = input.new_empty(4 * wide + 2 * hidden)
        self._grad_x = kept.view(input.dtype)[: rows * wide].view(rows, wide)
        self._places: dict[str, Tensor | None] = {
            "grad_output": _dense(grads[0], results[0]),
            "grad_h": _dense(grads[1], h_0, copy=True),
            "grad_c": None if c_0 is None else _dense(grads[2], c_0, copy=True),
            "grad_weight_hh": weight_hh.new_empty(weight_hh.shape) if needed[2] else None,
        }
        if weight_ih is not None:
            self._places |= {
                "grad_input": input.new_empty(rows, width) if needed[0] else None,
                "grad_weight_ih": weight_ih.new_empty(weight_ih.shape) if needed[1] else None,
            }
        elif not plan.layout.joined:
            self._places["grad_x"] = self._grad_x = input.new_empty(rows, wide)
        others = ("output", results[0]), ("grad_sums", self._sums)
        for name, tensor in (*self._places.items(), *others):
            call.give(name, tensor)

    def gradients(self) -> list[Tensor | None]:
        """Of all inputs, when the call has run."""
        plan, inputs, places = self.plan, self._inputs, self._places
        wide = inputs.weight_hh.shape[0]
        gain_x, gain_h, bias_x, bias_h = self._sums[: 4 * wide].view(4, -1).unbind()
        gain_c, bias_c = self._sums[4 * wide :].view(2, -1).unbind()
        of_place = {"x": bias_x, "h": bias_h}
        if any("i" in place for place in plan.layout.places):
            of_place["i"] = self._grad_x.sum(0)
        names = ("grad_weight_ih", "grad_weight_hh", "grad_h", "grad_c")
        found: list[Tensor | None] = [
            self._grad_x if inputs.weight_ih is None else places["grad_input"],
            *(places.get(name) for name in names),
            *(gain_x, gain_h, gain_c, bias_c),
            *(None,) * (BIASES - COLUMNS),  # of what was given or drawn
        ]
        found += [total([of_place[letter] for letter in place]) for place in plan.layout.places]
        if inputs.weight_ih is not None or not plan.layout.joined:  # else grad_x stands there
            memory.give(self._kept)
        return [grad if need else None for need, grad in zip(self._needed, found)]


def compute(*passes: Forward) -> None:
    """The results of forward passes, and where they are to keep it what the gradients need."""
    run([each.call for each in passes], backward=False)
    for each in passes:
        if not each.call.arguments.keep:
            memory.give(each.kept())


def compute_gradients(*passes: Backward) -> list[list[Tensor | None]]:
    """The gradients of the inputs of each."""
    run([each.call for each in passes], backward=True)
    return [each.gradients() for each in passes]


def _dense(grad: Tensor | None, like: Tensor, copy: bool = False) -> Tensor:
    if grad is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return grad.clone(memory_format=torch.contiguous_format) if copy else grad
