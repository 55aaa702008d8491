"""A layer in one direction as one operator: its definition, and the compiled loop.

Axes: T steps, B sequences, N packed rows, I inputs, H units, G gates.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from ...cell import Cell
from ...loop import State, scan
from ...scheme import NormScheme
from ...statistics import moments, normalise
from . import memory
from .layout import Layout
from .library import CELLS, KINDS, LIBRARY, VARIANTS, Arguments

# A thread's part of the products of a step must be worth waking it for.
LEAST_WORK = 32768


class Inputs(NamedTuple):
    """The tensors of a call: ``input`` (N, I) is projected by weight_ih (G * H, I), or is W_ih x
    itself where there is None; weight_hh (G * H, H); states; gains; mean and 1 / deviation (T, 2, .)
    for norms of the batch that take no statistics of these rows; biases to add."""

    input: Tensor
    weight_ih: Tensor | None
    weight_hh: Tensor
    h_0: Tensor
    c_0: Tensor | None
    gain_x: Tensor | None
    gain_h: Tensor | None
    gain_c: Tensor | None
    bias_c: Tensor | None
    columns_x: Tensor | None
    columns_h: Tensor | None
    columns_c: Tensor | None
    # At the places of the layout.
    bias_0: Tensor | None
    bias_1: Tensor | None
    bias_2: Tensor | None
    bias_3: Tensor | None


BIASES = Inputs._fields.index("bias_0")
COLUMNS = Inputs._fields.index("columns_x")


@dataclass(frozen=True)
class Plan:
    """What of a call is no tensor.

    Attributes:
        sizes: rows of each step.
    """

    cell: Cell
    scheme: NormScheme | None
    layout: Layout
    sizes: list[int]

    @property
    def sum(self) -> bool:
        """Whether the norm of h is one of x + h."""
        return self.scheme is not None and self.scheme.sum is not None

    @property
    def joined(self) -> bool:
        """Whether x + W_hh h is all that counts: an LSTM whose terms are not normalised apart."""
        return self.sum or (self.layout.kinds[:2] == (None, None) and len(self.cell.states) > 1)

    @property
    def swapped(self) -> bool:
        """Whether an LSTM feeds its normalised c back, or a GRU's z takes the candidate."""
        scheme = self.scheme
        return scheme is not None and (scheme.cell_state, scheme.update) != ("raw", "keep")

    def own(self, inputs: Inputs) -> list[bool]:
        """Whether the norms of x, h and c take statistics of the batch from the rows of the call."""
        pairs = zip(self.layout.kinds, inputs[COLUMNS:])
        return [kind == "batch" and given is None for kind, given in pairs]

    def added(self, place: str, inputs: Inputs) -> Tensor | None:
        """The sum of the biases that are added at one place."""
        pairs = zip(inputs[BIASES:], self.layout.places)
        return _sum([bias for bias, at in pairs if bias is not None and place in at])


def definition(plan: Plan, inputs: Inputs) -> tuple[Tensor, ...]:
    """What ``Recurrence`` computes, one step at a time, differentiable to any order."""
    bias_i, bias_x, bias_h = (plan.added(place, inputs) for place in "ixh")
    hidden, ends = inputs.h_0.shape[1], plan.layout.sets
    sizes = [(end - start) * hidden for start, end in zip((0, *ends), ends)]
    def norm(which: int, z: Tensor, gain: Tensor | None, bias: Tensor | None, t: int) -> Tensor:
        kind, given = plan.layout.kinds[which], inputs[COLUMNS + which]
        if given is not None:
            z = (z - given[t, 0]) * given[t, 1]
        elif kind is not None:
            pieces = []
            for part in z.split(sizes if which < 2 and kind != "batch" else [z.shape[1]], -1):
                dims = (0,) if kind == "batch" else (-1,)
                mean, var, _ = moments(part, dims, centred=kind != "rms")
                pieces.append(normalise(part, mean, var, plan.layout.eps[which]))
            z = torch.cat(pieces, -1)
        z = z if gain is None else z * gain
        return z if bias is None else z + bias

    def step(x: Tensor, state: State, t: int) -> State:
        def site(name: str, z: Tensor) -> Tensor:
            if name == "sum" and plan.sum:
                return norm(1, z, inputs.gain_h, bias_h, t)
            return norm(2, z, inputs.gain_c, inputs.bias_c, t) if name == "cell" else z

        h = plan.cell.hidden_term(state[0], inputs.weight_hh, None)
        if not plan.sum:
            x, h = norm(0, x, inputs.gain_x, bias_x, t), norm(1, h, inputs.gain_h, bias_h, t)
        return plan.cell.step(x, h, state, site, plan.scheme)

    x = inputs.input if inputs.weight_ih is None else F.linear(inputs.input, inputs.weight_ih)
    x = x if bias_i is None else x + bias_i
    state = (inputs.h_0,) if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    output, final = scan(step, x, plan.sizes, state)
    return (output, *final)


class Recurrence(torch.autograd.Function):
    """One direction of an LSTM or GRU: (output (N, H), h_n (B, H)[, c_n (B, H)]), and for each norm
    that takes statistics of these rows, of x, of h and of c, mean and 1 / deviation (T, 2, .) and
    variance (T, .), which have no gradient."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, recording: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        # Autograd says what requires a gradient, not whether it is recording.
        keep = recording and any(ctx.needs_input_grad)
        results, kept = compute(plan, _plain(Inputs(*tensors)), keep)  # type: ignore[arg-type]  # as apply got them
        ctx.plan = plan
        ctx.mark_non_differentiable(*results[1 + len(plan.cell.states) :])
        ctx.set_materialize_grads(False)
        if keep:
            ctx.kept = kept
            ctx.save_for_backward(*tensors, results[0])
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, output = ctx.saved_tensors
        given = Inputs(*saved)
        needed = ctx.needs_input_grad[2:]
        again = torch.is_grad_enabled()  # derivatives of these gradients are asked for
        if again or not all(grad is None or is_plain(grad) for grad in grads):
            return None, None, *_through_definition(ctx.plan, given, grads, needed)
        inputs = _plain(given)
        # The gradients take the place of what was kept; a second pass computes that once more.
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            _, kept = compute(ctx.plan, inputs, True)
        return None, None, *compute_gradients(ctx.plan, inputs, output, kept, grads, needed)


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own that means what it says."""
    if type(tensor) not in (Tensor, Parameter):
        return False
    try:
        tensor.data_ptr()
    except RuntimeError:  # one that stands for many, as in a vectorised backward pass
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _plain(inputs: Inputs) -> Inputs:
    """As the kernels read them: row by row, and nothing of autograd's."""
    return Inputs(*(t if t is None else t.detach().contiguous() for t in inputs))  # type: ignore[arg-type]  # None where it was


def _sum(terms: Sequence[Tensor]) -> Tensor | None:
    return sum(terms[1:], terms[0]) if terms else None


def compute(
    plan: Plan, inputs: Inputs, keep: bool
) -> tuple[tuple[Tensor, ...], dict[str, Tensor | None]]:
    """The results of ``Recurrence``, and what the gradients need of this pass: x, statistics,
    products, raw c."""
    input, h_0, c_0 = inputs.input, inputs.h_0, inputs.c_0
    wide, narrow = (len(input), len(inputs.weight_hh)), (len(input), h_0.shape[1])
    dtype = input.dtype
    # Memory of our own for x, unless the input is x and nothing is added to it.
    own = inputs.weight_ih is not None or plan.joined
    kept: dict[str, Tensor | None] = {
        "x": memory.take(wide, dtype) if own else None,
        "stats": None,
        "product": memory.take(wide, dtype) if keep and not plan.joined else None,
        "raw_c": memory.take(narrow, dtype) if keep and c_0 is not None else None,
    }
    if not plan.layout.batch:
        kept["stats"] = memory.take((len(input), 4 * len(plan.layout.sets) + 2), dtype)
    own: dict[str, Tensor | None] = {}
    for site, taken in zip("xhc", plan.own(inputs)):
        if taken:
            width = narrow[1] if site == "c" else wide[1]
            own["columns_" + site] = input.new_empty(len(plan.sizes), 2, width)
            own["var_" + site] = input.new_empty(len(plan.sizes), width)
    output = input.new_empty(narrow)
    h_n, c_n = h_0.clone(), None if c_0 is None else c_0.clone()
    places = {**kept, **own, "output": output, "h_n": h_n, "c_n": c_n}
    _call("seqnorm_forward", plan, inputs, places, keep)
    if not keep:
        memory.give(*kept.values())
    results = (output, h_n, c_n, *own.values())
    return tuple(t for t in results if t is not None), kept | own


def compute_gradients(
    plan: Plan,
    inputs: Inputs,
    output: Tensor,
    kept: dict[str, Tensor | None],
    grads: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of all inputs from those of the results. What is ``kept`` is used up."""
    input, weight_ih, weight_hh, h_0, c_0, *_ = inputs
    grad_x = torch.empty_like(input) if kept["x"] is None else kept["x"]
    sums = input.new_empty(4 * len(weight_hh) + 2 * h_0.shape[1])
    places: dict[str, Tensor | None] = {
        **kept,
        "output": output,
        "grad_output": _dense(grads[0], output),
        "grad_h": _dense(grads[1], h_0, copy=True),
        "grad_c": None if c_0 is None else _dense(grads[2], c_0, copy=True),
        "grad_x": grad_x if kept["x"] is None else None,
        "grad_weight_hh": torch.empty_like(weight_hh) if needed[2] else None,
        "grad_sums": sums,
    }
    if weight_ih is not None:
        places["grad_input"] = torch.empty_like(input) if needed[0] else None
        places["grad_weight_ih"] = torch.empty_like(weight_ih) if needed[1] else None
    _call("seqnorm_backward", plan, inputs, places, True)
    gain_x, gain_h, bias_x, bias_h = sums[: 4 * len(weight_hh)].view(4, -1).unbind()
    gain_c, bias_c = sums[4 * len(weight_hh) :].view(2, -1).unbind()
    of_place = {"x": bias_x, "h": bias_h}
    if any("i" in place for place in plan.layout.places):
        of_place["i"] = grad_x.sum(0)
    found: list[Tensor | None] = [
        grad_x if weight_ih is None else places["grad_input"],
        *(places.get(name) for name in ("grad_weight_ih", "grad_weight_hh", "grad_h", "grad_c")),
        *(gain_x, gain_h, gain_c, bias_c),
        *(None, None, None),
    ]
    found += [_sum([of_place[letter] for letter in place]) for place in plan.layout.places]
    memory.give(*(kept[name] for name in ("stats", "product", "raw_c")))
    if found[0] is not kept["x"]:
        memory.give(kept["x"])
    return [grad if need else None for need, grad in zip(needed, found)]


def _dense(grad: Tensor | None, like: Tensor, copy: bool = False) -> Tensor:
    if grad is None:
        return torch.zeros_like(like)
    return grad.clone(memory_format=torch.contiguous_format) if copy else grad.contiguous()


def _call(
    name: str,
    plan: Plan,
    inputs: Inputs,
    places: dict[str, Tensor | None],
    keep: bool,
) -> None:
    input, h_0, layout = inputs.input, inputs.h_0, plan.layout
    work = max(plan.sizes) * inputs.weight_hh.numel()
    rows = (ctypes.c_int64 * len(plan.sizes))(*plan.sizes)
    arguments = Arguments(
        cell=CELLS[plan.cell.name],
        T=len(plan.sizes),
        B=len(h_0),
        I=input.shape[1],
        H=h_0.shape[1],
        G=len(plan.cell.gates),
        threads=max(1, min(torch.get_num_threads(), work // LEAST_WORK)),
        sets=len(layout.sets),
        set_end=layout.sets + (0,) * (4 - len(layout.sets)),
        sum=plan.joined,
        keep=keep,
        swapped=plan.swapped,
        rows=ctypes.addressof(rows),
    )
    for letter, kind, eps in zip("xhc", layout.kinds, layout.eps):
        setattr(arguments, f"norm_{letter}", KINDS[kind])
        setattr(arguments, f"eps_{letter}", eps)
    for letter, own in zip("xhc", plan.own(inputs)):
        setattr(arguments, f"own_{letter}", own)
    biases = {
        key: plan.added(place, inputs)
        for key, place in (("bias_in", "i"), ("bias_x", "x"), ("bias_h", "h"))
    }
    given = list(inputs._asdict().items())[:BIASES]
    for key, tensor in (*given, *biases.items(), *places.items()):
        if tensor is None:
            continue
        if tensor.dtype != input.dtype or tensor.device.type != "cpu":
            raise RuntimeError(
                f"{key} is {tensor.dtype} on {tensor.device}, the input {input.dtype} on "
                f"{input.device}: convert one to the other"
            )
        setattr(arguments, key, tensor.data_ptr())
    variant, wide = list(VARIANTS.values())[-1], int(input.dtype == torch.float64)
    pointer = ctypes.byref(arguments)
    size = LIBRARY.seqnorm_scratch(variant, wide, pointer, name == "seqnorm_backward")
    scratch = memory.take((size,), torch.uint8)
    arguments.scratch = scratch.data_ptr()
    getattr(LIBRARY, name)(variant, wide, pointer)
    memory.give(scratch)


def _through_definition(
    plan: Plan, inputs: Inputs, grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    with torch.enable_grad():
        values = definition(plan, inputs)
    pairs = [(value, grad) for value, grad in zip(values, grads) if grad is not None]
    outputs, cotangents = zip(*pairs)
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    options: dict[str, Any] = {"create_graph": torch.is_grad_enabled(), "allow_unused": True}
    found = iter(torch.autograd.grad(outputs, wanted, cotangents, **options))
    return [next(found) if need else None for need in needed]
