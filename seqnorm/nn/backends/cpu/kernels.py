"""The compiled loop on tensors: results and gradients of one direction.

Axes: T steps, B sequences, N packed rows, I inputs, H units, P = size of h, G gates.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from . import library, memory
from .call import BIASES, COLUMNS, Call, Inputs
from .library import LIBRARY, Arguments

# A smaller part of the products of a step is not worth waking a thread.
LEAST_WORK = 32768
_TENSORS = Inputs._fields[:BIASES]
_Sizes = ctypes.c_int64 * 2
_Pointer = ctypes.POINTER(Arguments)


class Pass:
    """One pass of the kernels over some tensors, which it keeps alive.

    Args:
        keep: true for a backward pass, and for a forward pass that one will follow.
        kept: bytes for the values that the backward pass needs, beginning with x (N, G * H); spare
            memory if None.
    """

    def __init__(self, call: Call, inputs: Inputs, keep: bool, kept: Tensor | None) -> None:
        call.check(inputs)
        sizes = call.sizes
        self.arguments = arguments = Arguments.from_buffer_copy(call.plan.arguments)
        self.dtype = inputs.input.dtype
        self.kept = kept
        self._of_int8 = dict(call.scales)
        self.work = max(sizes) * work_of_row(inputs.weight_ih, inputs.weight_hh)
        rows = array("q", sizes)
        self._alive: list[object] = [rows]
        arguments.T, arguments.B = len(sizes), inputs.h_0.shape[0]
        arguments.I = inputs.input.shape[1]
        arguments.rows, arguments.keep = rows.buffer_info()[0], keep
        if call.half is not None:
            arguments.half = library.way_of_half(True)
        if call.plan.batch or call.plan.pooled:
            for term in call.own(inputs):
                setattr(arguments, "own_" + term, 1)
        for part, p in zip("hc", call.zoneout):
            if p:
                setattr(arguments, "zoneout_" + part, p)
        given: list[tuple[str, Tensor | None]] = list(zip(_TENSORS, inputs))
        if inputs.weight_hr is not None:
            arguments.P = inputs.h_0.shape[1]
            given.append(("weight_hr", inputs.weight_hr))
        for name, which in call.plan.added.items():
            total: Tensor | None = None
            for k in which:
                bias = inputs[BIASES + k]
                if bias is not None:
                    total = bias if total is None else total + bias
            given.append((name, total))
        for name, scale in call.scales:
            if name != "weight_ih" or inputs.weight_ih is not None:
                given.append((name.replace("weight", "scale"), scale))
        self.give(given)

    def give(self, tensors: Iterable[tuple[str, Tensor | None]]) -> None:
        """Pass tensors to the kernels, row by row, under their names in ``Arguments``."""
        for name, tensor in tensors:
            if tensor is None:
                continue
            dtype = torch.int8 if name in self._of_int8 else self.dtype
            if tensor.dtype != dtype or not tensor.is_cpu:
                raise RuntimeError(
                    f"{name} is {tensor.dtype} on {tensor.device}, the input {self.dtype} on the "
                    "CPU: convert one to the other"
                )
            if tensor.is_neg():  # a view with the opposite sign of the numbers in memory
                tensor = tensor.resolve_neg()
            tensor = tensor.contiguous()
            address = tensor.data_ptr()
            if not address and tensor.numel():
                raise RuntimeError(f"{name} has no memory: its storage was freed, or is symbolic")
            self._alive.append(tensor)
            setattr(self.arguments, name, address)


def run(passes: Sequence[Pass], backward: bool) -> None:
    """Run passes of one dtype, concurrently if there are enough threads."""
    which = library.VARIANTS[library.CHOSEN], int(passes[0].dtype == torch.float64)
    work = 0
    for one in passes:
        work += one.work
    threads = max(1, min(torch.get_num_threads(), work // LEAST_WORK))
    sizes, scratches = _Sizes(), []
    for one in passes:
        one.arguments.threads = -(-threads // len(passes))
        LIBRARY.seqnorm_sizes(*which, ctypes.byref(one.arguments), backward, sizes)
        scratches.append(memory.take(sizes[0]))
        if one.kept is None:
            one.kept = memory.take(sizes[1])
        elif one.kept.numel() < sizes[1]:
            raise RuntimeError(f"what is kept takes {sizes[1]} bytes, got {one.kept.numel()}")
        one.arguments.scratch, one.arguments.kept = scratches[-1].data_ptr(), one.kept.data_ptr()
    pointers = (_Pointer * len(passes))()
    for number, one in enumerate(passes):
        pointers[number] = ctypes.pointer(one.arguments)
    kernel = LIBRARY.seqnorm_backward if backward else LIBRARY.seqnorm_forward
    kernel(*which, pointers, len(passes), threads)
    for scratch in scratches:
        memory.give(scratch)


def work_of_row(weight_ih: Tensor | None, weight_hh: Tensor) -> int:
    """Return the products of one row at one step, by which threads are worth waking."""
    if weight_hh.dim() > 1:
        return weight_hh.numel()
    # An IndRNN has no matrix in its recurrence. Its units cost some 16 products each.
    return max(16 * weight_hh.numel(), 0 if weight_ih is None else weight_ih.numel())


def kept_width(call: Call, inputs: Inputs) -> int:
    """Return the number of reals kept of each packed row, as ``place_kept`` in ``src/loop.c``."""
    plan, hidden = call.plan, call.plan.hidden_size
    wide = len(plan.step.gates) * hidden
    zoneout = inputs.stay_c is not None or any(call.zoneout[1:])
    # The symbolic sizes of torch 2.3 cannot be multiplied by a truth value.
    parts = (
        (wide, inputs.weight_ih is not None or plan.joined),
        (4 * len(plan.sets) + 2, not plan.batch),
        (wide, not plan.joined),
        (plan.carried, True),
        (hidden, zoneout),
    )
    return sum(width for width, there in parts if there)


class Forward(Pass):
    """A forward pass.

    Attributes:
        results: the results of ``operators.recurrence``, filled by ``run``.
    """

    def __init__(self, call: Call, inputs: Inputs, keep: bool, kept: Tensor | None = None) -> None:
        super().__init__(call, inputs, keep, kept)
        self.call = call
        input, h_0, c_0 = inputs.input, inputs.h_0, inputs.c_0
        copy = torch.contiguous_format
        results = {
            "output": input.new_empty(input.shape[0], h_0.shape[1]),
            "h_n": h_0.detach().clone(memory_format=copy),
        }
        if c_0 is not None:
            results["c_n"] = c_0.detach().clone(memory_format=copy)
        if call.plan.batch or call.plan.pooled:
            for term in call.own(inputs):
                steps, rows, width = call.columns(inputs, term, len(call.sizes))
                results["columns_" + term] = input.new_empty(steps, rows, width)
                results["var_" + term] = input.new_empty(steps, width)
        self.give(results.items())
        self.results = tuple(results.values())


class Backward(Pass):
    """A backward pass, which overwrites ``kept``."""

    def __init__(
        self,
        call: Call,
        inputs: Inputs,
        results: tuple[Tensor, ...],
        kept: Tensor,
        grads: tuple[Tensor | None, ...],
        needed: tuple[bool, ...],
    ) -> None:
        super().__init__(call, inputs, True, kept)
        self._plan, self._inputs, self._needed = call.plan, inputs, needed
        hidden = call.plan.hidden_size
        self._wide = wide = len(call.plan.step.gates) * hidden
        input, weight_ih, weight_hh, h_0, c_0, *_ = inputs
        rows, width = input.shape
        statistics = iter(results[call.plan.states + 1 :])
        for term in call.own(inputs):
            self.give([("columns_" + term, next(statistics)), ("var_" + term, next(statistics))])
        self._sums = input.new_empty(4 * wide + 2 * hidden)
        self._grad_x = kept.view(input.dtype)[: rows * wide].view(rows, wide)
        self._places: dict[str, Tensor | None] = {
            "grad_output": _dense(grads[0], results[0]),
            "grad_h": _dense(grads[1], h_0, copy=True),
            "grad_c": None if c_0 is None else _dense(grads[2], c_0, copy=True),
            "grad_weight_hh": weight_hh.new_empty(weight_hh.shape) if needed[2] else None,
        }
        if inputs.weight_hr is not None and needed[-1]:
            self._places["grad_weight_hr"] = torch.empty_like(
                inputs.weight_hr, memory_format=torch.contiguous_format
            )
        if weight_ih is not None:
            self._places |= {
                "grad_input": input.new_empty(rows, width) if needed[0] else None,
                "grad_weight_ih": weight_ih.new_empty(weight_ih.shape) if needed[1] else None,
            }
        elif not call.plan.joined:
            self._places["grad_x"] = self._grad_x = input.new_empty(rows, wide)
        self.give(self._places.items())
        self.give([("output", results[0]), ("grad_sums", self._sums)])

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of all inputs, after ``run``."""
        plan, inputs, places = self._plan, self._inputs, self._places
        wide = self._wide
        gain_x, gain_h, bias_x, bias_h = self._sums[: 4 * wide].view(4, -1).unbind()
        gain_c, bias_c = self._sums[4 * wide :].view(2, -1).unbind()
        of_h = plan.sets[-1] * plan.hidden_size
        if of_h < wide:  # the candidate of a sum has a norm of its own
            gain_h = gain_h[:of_h]
        of_place = {"x": bias_x, "h": bias_h}
        if plan.added["bias_in"]:
            of_place["i"] = self._grad_x.sum(0)
        names = ("grad_weight_ih", "grad_weight_hh", "grad_h", "grad_c")
        found: list[Tensor | None] = [
            self._grad_x if inputs.weight_ih is None else places["grad_input"],
            *[places.get(name) for name in names],
            *(gain_x, gain_h, gain_c, bias_c),
            *(None,) * (BIASES - COLUMNS),  # statistics and drawn units have no gradient
        ]
        for place in plan.places:
            parts = [of_place[letter] for letter in place]
            found.append(sum(parts[1:], parts[0]) if parts else None)
        if of_h < wide:
            found[-1] = bias_x[:of_h]
        found.append(places.get("grad_weight_hr"))
        if inputs.weight_ih is not None or not plan.joined:  # else it holds grad_x
            memory.give(self.kept)  # type: ignore[arg-type]  # given at construction
        return [grad if need else None for need, grad in zip(self._needed, found)]


def exists() -> bool:
    """Return whether the kernels exist here."""
    return LIBRARY is not None


def copy_of_kept(kept: Tensor) -> Tensor:
    """Return a copy of what is kept (bytes), which the gradients overwrite."""
    copy = memory.take(kept.numel())
    copy[: kept.numel()].copy_(kept)
    return copy


def compute(passes: Sequence[Forward]) -> None:
    """Run forward passes, and free the memory of those that no backward pass will follow."""
    run(passes, backward=False)
    for one in passes:
        if not one.arguments.keep:
            memory.give(one.kept)  # type: ignore[arg-type]  # taken by ``run``
            one.kept = None


def compute_gradients(passes: Sequence[Backward]) -> list[list[Tensor | None]]:
    """Return the gradients of the inputs of each pass."""
    run(passes, backward=True)
    return [one.gradients() for one in passes]


def _dense(grad: Tensor | None, like: Tensor, copy: bool = False) -> Tensor:
    if grad is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return grad.clone(memory_format=torch.contiguous_format) if copy else grad
