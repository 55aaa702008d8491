"""The recurrence as operators of torch.library, for whatever traces a call or watches what it does:
torch.compile, torch.export, fake tensors, dispatch modes, hooks of saved tensors.

``seqnorm::recurrence`` is what a graph holds for a layer in one direction. Its derivative is
made of ``recurrence_training``, which gives all that a backward pass needs as well, and
``recurrence_backward``. They take Python objects as text and change no argument, so a graph can be
stored, and loaded where seqnorm is imported. What a call has not (c of a GRU, a gradient that
nobody needs) is an empty tensor.

Axes: T steps, B sequences, N packed rows, H units, G gates.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from ...cell import CELLS, Cell
from ...lengths import Packing
from ...loop import State
from ...scheme import NormScheme
from . import memory
from .layout import layout
from .library import LIBRARY
from .operators import (
    Inputs,
    Plan,
    _plain,
    _through_definition,
    compute,
    compute_gradients,
    definition,
)

# What hooks of saved tensors there are. Without the function, in an older torch, they see of a call
# of the kernels only its arguments and its output.
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)

RESULTS = ("output", "h_n", "c_n")
KEPT = ("x", "stats", "product", "raw_c")
# How the operators take a call; scheme is "" without one, batch_sizes (T,) int64 on the CPU.
_CALL = "str cell, str scheme, Tensor batch_sizes, " + ", ".join(
    f"Tensor{'' if kind is Tensor else '?'} {name}" for name, kind in get_type_hints(Inputs).items()
)


def is_traced(tensors: Iterable[Tensor]) -> bool:
    """Whether somebody follows what the kernels would do unseen."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or (_top_hooks is not None and _top_hooks(False) is not None)
        or any(type(tensor) not in (Tensor, Parameter) for tensor in tensors)
    )


def counts_operations() -> bool:
    """Whether torch.utils.flop_counter counts, which knows formulas of torch's own operators."""
    if torch.compiler.is_compiling():
        return False
    modes = _get_current_dispatch_mode_stack()
    return any(type(mode).__module__ == "torch.utils.flop_counter" for mode in modes)


def is_traceable(tensor: Tensor) -> bool:
    """Whether a tensor is plain, or stands for a plain one."""
    return type(tensor) in (Tensor, Parameter, FakeTensor, FunctionalTensor)


def recurrence(
    cell: Cell, scheme: NormScheme | None, packing: Packing, inputs: Inputs
) -> tuple[Tensor, State]:
    """``Recurrence`` as an operator: packed outputs (N, H) and final state (B, H), (B, H)."""
    text = "" if scheme is None else scheme.text
    sizes = packing.sizes(inputs.input)
    output, h_n, c_n = torch.ops.seqnorm.recurrence(cell.name, text, sizes, *inputs)
    return output, (h_n,) if inputs.c_0 is None else (h_n, c_n)


@functools.cache
def _parts(cell: str, scheme: str) -> tuple[Cell, NormScheme | None]:
    return CELLS[cell](), NormScheme.from_text(scheme) if scheme else None


def _plan(cell: str, scheme: str, inputs: Inputs, sizes: list[int]) -> Plan:
    built, norms = _parts(cell, scheme)
    found = layout(built, norms, int(inputs.weight_hh.shape[1]))
    if found.reason is not None:
        raise RuntimeError(f"seqnorm::recurrence of a {cell} with {scheme}: {found.reason}")
    return Plan(built, norms, found, sizes)


def _has_kernels(inputs: Inputs) -> bool:
    """Elsewhere, for graphs that come from another machine, there is the definition."""
    dtypes = (torch.float32, torch.float64)
    input = inputs.input
    return LIBRARY is not None and input.device.type == "cpu" and input.dtype in dtypes


def _called(cell: str, scheme: str, batch_sizes: Tensor, given: Inputs) -> tuple[Plan, Inputs]:
    """A call without the steps and rows that a graph for all lengths has at the end, unused."""
    sizes = batch_sizes.tolist()
    sizes = sizes[: len(sizes) - next((k for k, n in enumerate(reversed(sizes)) if n), len(sizes))]
    rows = sum(sizes)
    if rows < len(given.input):
        given = given._replace(input=given.input[:rows])
    return _plan(cell, scheme, given, sizes), given


def _padded(rows: Tensor | None, number: int) -> Tensor | None:
    """(N, ·) with zeros after those that there are."""
    if rows is None or len(rows) == number:
        return rows
    return F.pad(rows, (0, 0, 0, number - len(rows)))


def _checked(cell: str, scheme: str, batch_sizes: Tensor, tensors: Any) -> tuple[Plan, Inputs]:
    """A call whose tensors have the sizes that the kernels will take for granted."""
    plan, inputs = _called(cell, scheme, batch_sizes, _plain(Inputs(*tensors)))
    sizes = plan.sizes
    batch, hidden = inputs.h_0.shape
    gates = len(plan.cell.gates) * hidden
    falling = all(0 < n <= before for n, before in zip(sizes, (batch, *sizes)))
    if not falling or sum(sizes) != len(inputs.input):
        raise RuntimeError(
            f"batch_sizes must never grow from B = {batch} on and together be at most the "
            f"{len(inputs.input)} rows of the input, got {sizes}"
        )
    width = inputs.input.shape[1] if inputs.weight_ih is not None else gates
    of_cell, of_gates = (hidden,), (gates,)
    shapes = dict.fromkeys(Inputs._fields, of_gates) | {
        "input": (sum(sizes), width),
        "weight_ih": (gates, width),
        "weight_hh": (gates, hidden),
        **dict.fromkeys(("h_0", "c_0"), (batch, hidden)),
        **dict.fromkeys(("gain_c", "bias_c"), of_cell),
    }
    for name, tensor in inputs._asdict().items():
        if tensor is not None and tuple(tensor.shape) != shapes[name]:
            raise RuntimeError(f"{name} must be {shapes[name]}, got {tuple(tensor.shape)}")
    if (inputs.c_0 is None) == ("c" in plan.cell.states):
        raise RuntimeError(f"the states of {cell} are {', '.join(plan.cell.states)}")
    return plan, inputs


def _filled(given: Inputs, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Empty tensors for what there is not."""
    return tuple(given.input.new_empty(0) if t is None else t for t in tensors)


def _forward(cell: str, scheme: str, batch_sizes: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
    plan, inputs = _checked(cell, scheme, batch_sizes, tensors)
    if plan.sizes and _has_kernels(inputs):
        (output, *states), _ = compute(plan, inputs, False)
    else:
        # What is no step's is the initial state itself, and a result is no argument.
        output, *states = (value.clone() for value in definition(plan, inputs))
    rest = (None,) * (len(RESULTS) - 1 - len(states))
    return _filled(inputs, _padded(output, len(tensors[0])), *states, *rest)


def _forward_shapes(
    cell: str, scheme: str, batch_sizes: Tensor, *tensors: Any
) -> tuple[Tensor, ...]:
    given = Inputs(*tensors)
    output = given.input.new_empty(given.input.shape[0], given.weight_hh.shape[1])
    states = (None if t is None else t.new_empty(t.shape) for t in (given.h_0, given.c_0))
    return _filled(given, output, *states)


def _training(cell: str, scheme: str, batch_sizes: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
    plan, inputs = _checked(cell, scheme, batch_sizes, tensors)
    # What is kept was taken from spare memory, and is never given back: it is the caller's.
    if not plan.sizes:
        results = _training_shapes(cell, scheme, batch_sizes, *tensors)
        for result, state in zip(results, (None, inputs.h_0, inputs.c_0, *(None,) * len(KEPT))):
            _ = result.zero_() if state is None else result.copy_(state)
        return results
    (output, *states), kept = compute(plan, inputs, True)
    sets, stats = 2 * len(plan.layout.sets), kept["stats"]
    if stats is not None:
        # A result is the same every time, also where nothing was written or will be read.
        for part, kind in zip(stats.split((sets, sets, 2), -1), plan.layout.kinds):
            if kind is None:
                part.zero_()
    rest = (None,) * (len(RESULTS) - 1 - len(states))
    rows = [_padded(t, len(tensors[0])) for t in (output, *(kept[name] for name in KEPT))]
    return _filled(inputs, rows[0], *states, *rest, *rows[1:])


def _training_shapes(
    cell: str, scheme: str, batch_sizes: Tensor, *tensors: Any
) -> tuple[Tensor, ...]:
    given = Inputs(*tensors)
    plan = _plan(cell, scheme, given, [])
    rows, (wide, hidden) = given.input.shape[0], given.weight_hh.shape

    def kept(there: bool, width: int) -> Tensor | None:
        return given.input.new_empty(rows, width) if there else None

    return _forward_shapes(cell, scheme, batch_sizes, *tensors) + _filled(
        given,
        kept(given.weight_ih is not None or plan.joined, wide),
        kept(True, 4 * len(plan.layout.sets) + 2),
        kept(not plan.joined, wide),
        kept(given.c_0 is not None, hidden),
    )


def _split(tensors: Any) -> tuple[Any, Any, Any]:
    """The arguments of ``recurrence_backward``: inputs; output and what was kept; gradients."""
    middle = len(Inputs._fields)
    return tensors[:middle], tensors[middle : middle + 1 + len(KEPT)], tensors[-len(RESULTS) :]


def _backward(cell: str, scheme: str, batch_sizes: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    *tensors, needed = arguments
    given, rows, (grad_output, *grads) = _split(tensors)
    plan, inputs = _checked(cell, scheme, batch_sizes, given)
    if not plan.sizes:
        of_states = {"h_0": grads[0], "c_0": grads[1]}
        results = _backward_shapes(cell, scheme, batch_sizes, *arguments)
        for name, result in zip(Inputs._fields, results):
            grad = of_states.get(name)
            _ = result.zero_() if grad is None or not result.numel() else result.copy_(grad)
        return results
    number = len(inputs.input)
    output, *kept = (t[:number] for t in rows)
    # The gradients take the place of what was kept, so they get copies.
    places = {
        name: memory.take(t.shape, t.dtype).copy_(t) if t.numel() else None
        for name, t in zip(KEPT, kept)
    }
    cotangents = (None if grad_output is None else grad_output[:number], *grads)
    found = compute_gradients(plan, inputs, output.contiguous(), places, cotangents, tuple(needed))
    found[0] = _padded(found[0], len(given[0]))
    # Those of vectors are pieces of one tensor, or one for several.
    own = [t.clone() if t is not None and t.dim() == 1 else t for t in found]
    return _filled(inputs, *own)


def _backward_shapes(
    cell: str, scheme: str, batch_sizes: Tensor, *arguments: Any
) -> tuple[Tensor, ...]:
    *tensors, needed = arguments
    given = Inputs(*_split(tensors)[0])
    shapes = (t.shape if t is not None and need else None for t, need in zip(given, needed))
    return _filled(given, *(None if s is None else given.input.new_empty(s) for s in shapes))


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: str, scheme: str, batch_sizes: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        call = cell, scheme, batch_sizes, *tensors
        with torch._C._AutoDispatchBelowAutograd():
            output, h_n, c_n, *kept = torch.ops.seqnorm.recurrence_training(*call)
        ctx.call = cell, scheme
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, *tensors, output, *kept)
        if not c_n.numel():
            ctx.mark_non_differentiable(c_n)
        return output, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        cell, scheme = ctx.call
        batch_sizes, *saved = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        given = Inputs(*saved[: len(Inputs._fields)])
        found: Sequence[Tensor | None]
        if torch.is_grad_enabled():  # derivatives of these gradients are asked for
            plan, used = _called(cell, scheme, batch_sizes, given)
            of_output = None if grads[0] is None else grads[0][: len(used.input)]
            pairs = (of_output, *grads[1 : 1 + len(plan.cell.states)])
            found = _through_definition(plan, used, pairs, needed)
            found[0] = _padded(found[0], len(given.input))
        else:
            found = torch.ops.seqnorm.recurrence_backward(
                cell, scheme, batch_sizes, *saved, *grads, [bool(need) for need in needed]
            )
        return None, None, None, *(t if need else None for t, need in zip(found, needed))


def _autograd(cell: str, scheme: str, batch_sizes: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
    """Where gradients are recorded."""
    call = cell, scheme, batch_sizes, *tensors
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        given = Inputs(*tensors)
        if _has_kernels(given):
            results: tuple[Tensor, ...] = _Differentiable.apply(*call)  # type: ignore[no-untyped-call]  # torch's own
            return results
        plan, used = _called(cell, scheme, batch_sizes, given)
        output, *states = definition(plan, used)
        rest = (None,) * (len(RESULTS) - 1 - len(states))
        return _filled(given, _padded(output, len(given.input)), *states, *rest)
    with torch._C._AutoDispatchBelowAutograd():
        found: tuple[Tensor, ...] = torch.ops.seqnorm.recurrence(*call)
    return found


def _one_by_one(name: str, info: Any, dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    """An operator of a batch of calls, as a vectorised backward pass makes of one."""
    operator = getattr(torch.ops.seqnorm, name)
    calls = (
        [value if at is None else value.select(at, k) for value, at in zip(arguments, dims)]
        for k in range(info.batch_size)
    )
    results = tuple(torch.stack(parts) for parts in zip(*(operator(*call) for call in calls)))
    return results, (0,) * len(results)


def _register() -> torch.library.Library:
    results, kept = (", ".join(f"Tensor {name}" for name in names) for names in (RESULTS, KEPT))
    passed = "".join(f", Tensor {name}" for name in ("output", *KEPT))
    passed += "".join(f", Tensor? grad_{name}" for name in RESULTS) + ", bool[] needed"
    grads = ", ".join(f"Tensor grad_{name}" for name in Inputs._fields)
    library = torch.library.Library("seqnorm", "DEF")
    for name, arguments, returns, compute_it, shapes in (
        ("recurrence", _CALL, results, _forward, _forward_shapes),
        ("recurrence_training", _CALL, f"{results}, {kept}", _training, _training_shapes),
        ("recurrence_backward", _CALL + passed, grads, _backward, _backward_shapes),
    ):
        library.define(f"{name}({arguments}) -> ({returns})", tags=torch.Tag.pt2_compliant_tag)
        library.impl(name, compute_it, "CompositeExplicitAutograd")
        # register_fake would be the same, but searches all modules for where it is called.
        library.impl(name, shapes, "Meta")
        if hasattr(torch.library, "register_vmap"):  # since torch 2.5
            rule = functools.partial(_one_by_one, name)
            torch.library.register_vmap(f"seqnorm::{name}", rule, lib=library)
    library.impl("recurrence", _autograd, "Autograd")
    return library


# Operators live as long as this does.
_OPERATORS = _register()
