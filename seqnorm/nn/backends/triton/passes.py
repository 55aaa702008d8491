"""The Triton kernels on tensors: results and gradients of one direction.

Axes: T steps, B sequences, N packed rows, H units, G gates, S blocks of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ...recurrence.packing import on_device
from ..cpu.call import BEFORE, BIASES, COLUMNS, Call, Inputs
from .kernels.additive import additive_backward, additive_forward
from .kernels.gru import gru_backward, gru_forward
from .kernels.lstm import lstm_backward, lstm_forward
from .layout import KINDS, TABLE, biases_of, options_of, places_of, tiles_of

FORWARD = {
    "LSTM": lstm_forward,
    "GRU": gru_forward,
    "RNN": additive_forward,
    "LiGRU": additive_forward,
}
BACKWARD = {
    "LSTM": lstm_backward,
    "GRU": gru_backward,
    "RNN": additive_backward,
    "LiGRU": additive_backward,
}


def _times(sizes: Sequence[int], batch: int, device: torch.device) -> list[Tensor]:
    """Return the first row and the number of rows of each step, and the steps of each sequence."""
    if sizes[0] == sizes[-1] == batch:  # made on the device, so that a CUDA graph can hold it
        steps = len(sizes)
        starts = torch.arange(0, steps * batch, batch, device=device)
        return [starts, torch.full_like(starts, batch), starts.new_full((batch,), steps)]
    rows = torch.tensor(sizes, dtype=torch.int64)
    ended = torch.bincount(rows, minlength=batch + 1)
    # Sequence k has as many steps as have more than k rows.
    lengths = len(rows) - ended.cumsum(0)[:-1]
    times = (rows.cumsum(0) - rows, rows, lengths)
    return [on_device(part, device) for part in times]


class _Pass:
    """A call with its tiles and the options of its kernel."""

    def __init__(self, call: Call, inputs: Inputs) -> None:
        call.check(inputs)
        x = inputs.input
        for name, tensor in inputs._asdict().items():
            if tensor is not None and (tensor.dtype != x.dtype or tensor.device != x.device):
                raise RuntimeError(
                    f"{name} is {tensor.dtype} on {tensor.device}, the input {x.dtype} on "
                    f"{x.device}: convert one to the other"
                )
        plain = [None if t is None else t.detach().resolve_neg().contiguous() for t in inputs]
        self.call, self.inputs = call, Inputs._make(plain)
        self.tiles = tiles_of(call, self.inputs)
        self.biases = biases_of(call, self.inputs)
        self.options = options_of(call, self.inputs, self.tiles, self.biases)
        # Threads / 32, and loads ahead: more than one takes too many registers. Triton 3.9 warns
        # unless it is told whether a * b + c may be one instruction.
        self.compiler_options = {
            "num_warps": self.tiles.warps,
            "num_stages": 1,
            "enable_fp_fusion": True,
        }
        self.joined = call.plan.sites[1] == "sum"
        self.hidden = call.plan.hidden_size
        self.wide = len(call.plan.step.gates) * self.hidden
        self.product_dtype = call.half or x.dtype
        self.times = _times(call.sizes, len(inputs.h_0), x.device)

    def tables(self) -> tuple[Tensor | None, ...]:
        """Return the given columns of the norms of h and c, and no variances."""
        _, columns_h, columns_c = self.inputs[COLUMNS:BEFORE]
        return columns_h, None, columns_c, None

    def vectors(self, columns: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the vectors and the drawn units in the order of a kernel's arguments."""
        inputs = self.inputs
        before, after = self.biases
        found = [inputs.gain_h, after, before, *columns[:2]]
        found += [inputs.gain_c, inputs.bias_c, *columns[2:], inputs.stay_h, inputs.stay_c]
        return found

    def apart(self, kept: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the two parts of what is kept, from their memory."""
        rows = len(self.inputs.input)
        whole = kept.view(-1).view(self.inputs.input.dtype)
        p = whole[: rows * self.wide].view(rows, self.wide)
        if self.inputs.c_0 is None:
            return p, None
        return p, whole[p.numel() : p.numel() + rows * self.hidden].view(rows, self.hidden)

    def states_before(self, output: Tensor) -> Tensor:
        """Return h (N, H) before each step, from the output (N, H)."""
        sizes, h_0 = self.call.sizes, self.inputs.h_0
        whole = torch.cat((h_0, output))
        if sizes[0] == sizes[-1] == len(h_0):
            return whole[: len(output)]
        rows = torch.tensor(sizes, dtype=torch.int64)
        starts = rows.cumsum(0) - rows
        before = torch.cat((starts.new_zeros(1), len(h_0) + starts[:-1]))
        index = torch.arange(len(output)) + (before - starts).repeat_interleave(rows)
        return whole.index_select(0, on_device(index, whole.device))

    def launches(self) -> list[tuple[int, int]]:
        """Return the first step and the rows of each launch."""
        sizes = self.call.sizes
        return [(0, sizes[0])] if self.tiles.loop else list(enumerate(sizes))

    def launch(
        self, kernels: dict[str, Any], arguments: Sequence[Any], step: int, alive: int
    ) -> None:
        """Launch a kernel for one step, or for all steps if a program loops over them."""
        last = len(self.call.sizes) if self.tiles.loop else step + 1
        kernel = kernels[self.call.plan.step.name][self.tiles.grid(alive, self.hidden)]
        kernel(*arguments, step, last, self.hidden, **self.options, **self.compiler_options)


class Forward(_Pass):
    """A forward pass.

    Attributes:
        results: the results of ``operators.recurrence``, filled by ``run``.
        kept: W_hh h (N, G * H) and c before each step (N, H), for a backward pass; or ``None``.
    """

    def __init__(self, call: Call, inputs: Inputs, keep: bool, kept: Tensor | None = None) -> None:
        super().__init__(call, inputs)
        given = self.inputs
        x, rows = given.input, len(given.input)
        self.kept: tuple[Tensor, Tensor | None] | None = None
        if kept is not None:
            self.kept = self.apart(kept)
        elif keep:
            dtype = x.dtype if self.tiles.loop else self.product_dtype
            before = None if given.c_0 is None else x.new_empty(rows, self.hidden)
            self.kept = x.new_empty(rows, self.wide, dtype=dtype), before
        self.h = given.h_0.clone()
        self.c = None if given.c_0 is None else given.c_0.clone()
        self.output = x.new_empty(rows, self.hidden)
        found = [self.output, self.h] + ([] if self.c is None else [self.c])
        self.columns = list(self.tables())
        for place, term in enumerate("hc"):
            if term in call.own(given):
                steps, two, width = call.columns(given, term, len(call.sizes))
                own = x.new_empty(steps, two, width), x.new_empty(steps, width)
                self.columns[2 * place : 2 * place + 2] = own
                found += own
        self.results = tuple(found)

    def arguments(self) -> list[Any]:
        """Return the arguments of the kernel before the steps."""
        given, dtype = self.inputs, self.product_dtype
        half = dtype != given.input.dtype
        self.options |= {"KEEP": self.kept is not None, "HALF": half}
        weight = given.weight_hh.t().to(dtype)
        if self.tiles.loop:
            weight = weight.contiguous()
        p, before = (None, None) if self.kept is None else self.kept
        if p is None and not self.tiles.loop:
            p = given.input.new_empty(len(given.h_0), self.wide, dtype=dtype)
        operand = self.h.to(dtype) if half else None
        found = [given.input, p, weight, operand, self.h, self.c, self.output, before]
        return [*found, *self.times, *self.vectors(self.columns)]

    def run(self) -> None:
        """Compute the results."""
        arguments = self.arguments()
        _, p, weight, operand, h, *_ = arguments
        left = h if operand is None else operand
        start = 0
        for step, alive in self.launches():
            if not self.tiles.loop:
                here = start if self.kept is not None else 0
                torch.mm(left[:alive], weight, out=p[here : here + alive])
            self.launch(FORWARD, arguments, step, alive)
            start += alive


class Backward(_Pass):
    """A backward pass.

    Args:
        results: those of the forward pass; of the states, nothing is read.
        kept: what the forward pass kept.
        grads: gradients of output and states.
        needed: for each input, whether its gradient is needed.
    """

    def __init__(
        self,
        call: Call,
        inputs: Inputs,
        results: tuple[Tensor, ...],
        kept: Tensor | tuple[Tensor, Tensor | None],
        grads: tuple[Tensor | None, ...],
        needed: tuple[bool, ...],
    ) -> None:
        super().__init__(call, inputs)
        given = self.inputs
        self._needed = needed
        self._p, self._before = self.apart(kept) if isinstance(kept, Tensor) else kept
        self._h_before = self.states_before(results[0])
        self.columns = list(self.tables())
        statistics = iter(results[call.plan.states + 1 :])
        for place, term in enumerate("hc"):
            if term in call.own(given):
                self.columns[2 * place : 2 * place + 2] = next(statistics), next(statistics)
        output = results[0]
        grad_output = torch.zeros_like(output) if grads[0] is None else grads[0]
        self._grad_output = grad_output.resolve_neg().contiguous()
        likes = (given.h_0, given.c_0)
        # The kernels overwrite those of the states.
        self._grads = [
            None if like is None else _dense(grad, like) for grad, like in zip(grads[1:], likes)
        ]
        apart = self.options["KIND"] != 0 and not self.joined
        apart = apart or call.plan.step.name == "GRU"
        self._apart = apart or self.product_dtype != given.input.dtype
        self._grad_x = torch.empty_like(given.input)
        self._grad_p = self._grad_x
        if self._apart:
            self._grad_p = torch.empty_like(given.input, dtype=self.product_dtype)
        width = 2 * self.wide + 2 * self.hidden
        self._sums = given.input.new_zeros(self.tiles.blocks, width)

    def arguments(self) -> list[Any]:
        """Return the arguments of the kernel before the steps."""
        given = self.inputs
        self.options |= {"APART": self._apart}
        for name in ("KIND", "KIND_C"):
            kind = self.options[name]
            self.options["READ" + name[4:]] = TABLE if kind == KINDS["batch"] else kind
        weight = given.weight_hh.to(self.product_dtype)
        grad_h, grad_c = (*self._grads, None)[:2]
        back: Tensor | None = None
        if not self.tiles.loop:
            back = torch.zeros_like(given.h_0, dtype=self.product_dtype)
        found = [given.input, self._p, weight, self._h_before, self._before]
        found += [self._grad_output, grad_h, grad_c, back, self._grad_x]
        found += [self._grad_p if self._apart else None, self._sums]
        return [*found, *self.times, *self.vectors(self.columns)]

    def run(self) -> None:
        """Compute the gradients."""
        arguments = self.arguments()
        _, _, weight, _, _, _, grad_h, _, back, *_ = arguments
        start = len(self.inputs.input)
        for step, alive in reversed(self.launches()):
            self.launch(BACKWARD, arguments, step, alive)
            if back is not None:
                here = slice(start - alive, start)
                torch.mm(self._grad_p[here], weight, out=back[:alive])
                start -= alive
        if back is not None:
            grad_h += back

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of all inputs, after ``run``."""
        plan, inputs, needed = self.call.plan, self.inputs, self._needed
        sums = self._sums.sum(0)
        gain_h, after, gain_c, bias_c = sums.split([self.wide] * 2 + [self.hidden] * 2)
        of_h = plan.sets[-1] * self.hidden  # not the candidate, if its norm is its own
        grad_h, *rest = self._grads
        grad_hh: Tensor | None = None
        if needed[2]:
            left, right = self._grad_p, self._h_before.to(self.product_dtype)
            grad_hh = (left.t() @ right).to(inputs.input.dtype)
        found: dict[str, Tensor | None] = {
            "input": self._grad_x,
            "weight_hh": grad_hh,
            "h_0": grad_h,
            "c_0": rest[0] if rest else None,
            "gain_h": gain_h[:of_h],
            "gain_c": gain_c,
            "bias_c": bias_c,
        }
        places = places_of(plan)
        # Biases at one place get one tensor, of which autograd makes copies, but not of views.
        of_place = {"after": after[:of_h]}
        if any(needed[BIASES + number] for number in places["before"]):
            of_place["before"] = self._grad_p.sum(0, dtype=inputs.input.dtype)
        for number in range(4):
            parts = [grad for place, grad in of_place.items() if number in places[place]]
            found[f"bias_{number}"] = sum(parts[1:], parts[0]) if parts else None
        named = zip(Inputs._fields, needed)
        return [found.get(name) if need else None for name, need in named]


def copy_of_kept(kept: Tensor) -> Tensor:
    """Return what is kept itself, which the gradients do not overwrite."""
    return kept


def compute(passes: Sequence[Forward]) -> None:
    """Run forward passes."""
    for one in passes:
        with _on(one.inputs.input):
            one.run()


def compute_gradients(passes: Sequence[Backward]) -> list[list[Tensor | None]]:
    """Return the gradients of the inputs of each pass."""
    for one in passes:
        with _on(one.inputs.input):
            one.run()
    return [one.gradients() for one in passes]


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context in which kernels are launched on the device of a tensor."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _dense(grad: Tensor | None, like: Tensor) -> Tensor:
    """Return a gradient with memory of its own, which a pass may overwrite."""
    if grad is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return grad.clone(memory_format=torch.contiguous_format)
