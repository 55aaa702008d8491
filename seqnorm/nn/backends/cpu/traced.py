"""The recurrence as operators of torch.library, for tools that trace or watch a call.

Such tools are torch.compile, torch.export, fake tensors, dispatch modes and hooks of saved tensors.

A graph holds ``seqnorm::recurrence`` for a layer in one direction. Its derivative consists of
``recurrence_training``, which also returns all that a backward pass needs, and
``recurrence_backward``. The operators take Python objects as text and change no argument, so a
graph can be stored, and loaded where seqnorm is imported. Missing tensors (c of a GRU, a gradient
that is not needed) are empty.

Axes: T steps, B sequences, N packed rows, H units, P = size of h, G gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...recurrence.packing import never_grow
from ...recurrence.scheme import NormScheme
from ...recurrence.step import STEPS, Nonlinear, Step
from ..watching import is_forward_mode
from . import kernels
from .call import ALWAYS, Call, Inputs
from .definition import definition, gradients
from .plan import Plan, make_plan, units_of

# The compiler of torch 2.3 cannot trace the way to the operators.
COMPILES = hasattr(torch.library, "custom_op")  # since torch 2.4

RESULTS = ("output", "h_n", "c_n")
STATISTICS = ("own_x", "var_x", "own_h", "var_h", "own_c", "var_c")
# The arguments of the operators. cell is the name of a step, followed by a space and its
# nonlinearity or the number of its heads if it has them; scheme is "" without a norm; batch_sizes
# (T,) is int64 and on the CPU.
_CALL = "str cell, str scheme, float[] zoneout, Tensor batch_sizes, " + ", ".join(
    f"Tensor{'' if name in ALWAYS else '?'} {name}" for name in Inputs._fields
)
# The number of arguments before the tensors.
CALL = 4


def recurrence(call: Call, inputs: Inputs, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Compute ``operators.recurrence`` by an operator; ``sizes`` (T,) replaces the call's."""
    scheme = call.plan.scheme
    text = "" if scheme is None else scheme.text
    if sizes is None:
        sizes = call.sizes_like(inputs.input)
    arguments = _text(call.plan.step), text, list(call.zoneout), sizes, *inputs
    results = dict(zip((*RESULTS, *STATISTICS), torch.ops.seqnorm.recurrence(*arguments)))
    states = ("h_n",) if inputs.c_0 is None else ("h_n", "c_n")
    statistics = (name for term in call.own(inputs) for name in ("own_" + term, "var_" + term))
    return tuple(results[name] for name in ("output", *states, *statistics))


def _text(step: Step) -> str:
    option = step.nonlinearity if isinstance(step, Nonlinear) else step.heads
    return f"{step.name} {option}" if option else step.name


@functools.cache
def _plan(step: str, scheme: str, hidden_size: int, alone: bool) -> Plan:
    norms = NormScheme.from_text(scheme) if scheme else None
    name, *options = step.split()
    made = STEPS[name](*[int(option) if option.isdigit() else option for option in options])
    found = make_plan(made, norms, hidden_size, alone)
    if found.reason is not None:
        raise RuntimeError(f"seqnorm::recurrence of a {step} with {scheme}: {found.reason}")
    return found


def _call(call: Any, given: Inputs, sizes: list[int]) -> Call:
    step, scheme, zoneout, _ = call
    hidden = int(units_of(STEPS[step.split()[0]], given.weight_hh))
    # Without W_ih the term of the input is finished, also in graphs of earlier versions.
    return Call(_plan(step, scheme, hidden, given.weight_ih is None), sizes, tuple(zoneout))


def shapes_of_call(arguments: Any, given: Inputs) -> Call:
    """Return a call, of which a trace knows no numbers of rows, from the operator's arguments."""
    return _call(arguments, given, [])


# Engines by the type of their device; that of a GPU adds itself. A graph is traced without its
# device, so that all of them keep as much of a row as the kernels of the CPU, or less.
ENGINES: dict[str, Callable[[], Any]] = {"cpu": lambda: kernels if kernels.exists() else None}


def _engine(inputs: Inputs) -> Any:
    """Return the engine of the device of a call, or ``None`` where it does not exist."""
    find = ENGINES.get(inputs.input.device.type)
    return None if find is None else find()


def _has_kernels(inputs: Inputs) -> bool:
    """Return whether kernels exist here, which a graph from another machine may lack."""
    known = inputs.input.dtype in (torch.float32, torch.float64)
    return known and _engine(inputs) is not None


def _called(arguments: Any, given: Inputs) -> tuple[Call, Inputs]:
    """Return a call without the unused steps and rows at the end of a graph for all lengths."""
    sizes = arguments[3].tolist()
    steps = next((t for t in range(len(sizes), 0, -1) if sizes[t - 1]), 0)
    call = _call(arguments, given, sizes[:steps])
    if steps < len(sizes) and call.plan.batch:
        raise RuntimeError("norms of the batch have statistics of every step: no step is unused")
    rows = sum(sizes)
    if rows < len(given.input):
        stay_h, stay_c = (t if t is None else t[:rows] for t in (given.stay_h, given.stay_c))
        given = given._replace(input=given.input[:rows], stay_h=stay_h, stay_c=stay_c)
    return call, given


def _padded(rows: Tensor | None, number: int) -> Tensor | None:
    """Pad rows (., F) with zeros to (number, F)."""
    if rows is None or rows.shape[0] == number:
        return rows
    return F.pad(rows, (0, 0, 0, number - rows.shape[0]))


def _checked(arguments: Any, tensors: Any) -> tuple[Call, Inputs]:
    """Return a call whose tensors have the sizes that the kernels rely on."""
    step, _, zoneout, _ = arguments
    call, inputs = _called(arguments, Inputs(*tensors))
    sizes, states = call.sizes, call.plan.step.states
    batch = len(inputs.h_0)
    if not never_grow(batch, sizes) or sum(sizes) != len(inputs.input):
        raise RuntimeError(
            f"batch_sizes must never grow from B = {batch} on and together be at most the "
            f"{len(inputs.input)} rows of the input, got {sizes}"
        )
    call.check(inputs)
    if (inputs.c_0 is None) == ("c" in states) or len(zoneout) != call.plan.states:
        raise RuntimeError(f"the states of {step} are {', '.join(states)}")
    return call, inputs


def _filled(given: Inputs, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Replace None by empty tensors."""
    return tuple(given.input.new_empty(0) if t is None else t for t in tensors)


def in_places(call: Call, inputs: Inputs, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the results of ``operators.recurrence`` at their places; ``inputs`` has all rows."""
    states = call.plan.states
    output = _padded(results[0], inputs.input.shape[0])
    found = dict(zip(RESULTS, (output, *results[1 : 1 + states])))
    statistics = iter(results[1 + states :])
    for term in call.own(inputs):
        found["own_" + term], found["var_" + term] = next(statistics), next(statistics)
    return _filled(inputs, *(found.get(name) for name in (*RESULTS, *STATISTICS)))


def _results(call: Call, inputs: Inputs, kept: Tensor | None) -> tuple[Tensor, ...]:
    """Return the results of a call; ``kept`` takes the values for a backward pass."""
    if call.sizes and (kept is not None or _has_kernels(inputs)):
        space = None if kept is None else _bytes(kept)
        engine = _engine(inputs) or kernels
        engine.compute([forward := engine.Forward(call, inputs, kept is not None, space)])
        found: tuple[Tensor, ...] = forward.results
        return found
    # Without steps the final state is the initial one, but a result must not be an argument.
    return tuple(value.clone() for value in definition(call, inputs))


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    call, inputs = _checked(arguments[:CALL], arguments[CALL:])
    return in_places(call, Inputs(*arguments[CALL:]), _results(call, inputs, None))


def _forward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    batch_sizes, given = arguments[CALL - 1], Inputs(*arguments[CALL:])
    call = shapes_of_call(arguments[:CALL], given)
    found = [given.input.new_empty(given.input.shape[0], given.h_0.shape[1])]
    found += [t.new_empty(t.shape) for t in (given.h_0, given.c_0) if t is not None]
    for term in call.own(given):
        steps, rows, width = call.columns(given, term, batch_sizes.shape[0])
        found += [given.input.new_empty(steps, rows, width), given.input.new_empty(steps, width)]
    return in_places(call, given, found)


def _training(*arguments: Any) -> tuple[Tensor, ...]:
    call, inputs = _checked(arguments[:CALL], arguments[CALL:])
    given = Inputs(*arguments[CALL:])
    # Zeros where nothing is written, because equal calls must have equal results.
    kept = inputs.input.new_zeros(len(given.input), kernels.kept_width(call, inputs))
    return *in_places(call, given, _results(call, inputs, kept)), kept


def _training_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    given = Inputs(*arguments[CALL:])
    call = shapes_of_call(arguments[:CALL], given)
    kept = given.input.new_empty(given.input.shape[0], kernels.kept_width(call, given))
    return *_forward_shapes(*arguments), kept


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _split(tensors: Any) -> tuple[Any, Any, Any, Any]:
    """Return inputs, output and statistics, kept values and gradients of a backward call."""
    middle, end = len(Inputs._fields), len(tensors) - len(RESULTS)
    return tensors[:middle], tensors[middle : end - 1], tensors[end - 1], tensors[end:]


def _backward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, needed = arguments[CALL:]
    given, (output, *statistics), kept, (grad_output, *grads) = _split(tensors)
    call, inputs = _checked(arguments[:CALL], given)
    if not call.sizes:
        return _of_no_steps(given, grads, needed)
    rows = len(inputs.input)
    output, grad_output = output[:rows], None if grad_output is None else grad_output[:rows]
    engine = _engine(inputs) or kernels
    space = engine.copy_of_kept(_bytes(kept.contiguous()))
    states = (output,) * call.plan.states  # not read
    results = (output, *states, *(t for t in statistics if t.numel()))
    cotangents = grad_output, *grads
    backward = engine.Backward(call, inputs, results, space, cotangents, tuple(needed))
    (found,) = engine.compute_gradients([backward])
    found[0] = _padded(found[0], len(given[0]))
    # Gradients of vectors are views of one tensor, or one tensor for several vectors.
    own = [t.clone() if t is not None and t.dim() == 1 else t for t in found]
    return _filled(inputs, *own)


def _of_no_steps(given: Any, grads: Any, needed: Any) -> tuple[Tensor, ...]:
    """Return zeros, but for the states, which are results themselves."""
    inputs = Inputs(*given)
    found = {name: torch.zeros_like(t) for name, t in inputs._asdict().items() if t is not None}
    found |= {name: grad.clone() for name, grad in zip(("h_0", "c_0"), grads) if grad is not None}
    names = zip(Inputs._fields, needed)
    return _filled(inputs, *(found[name] if need else None for name, need in names))


def _backward_shapes(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, needed = arguments[CALL:]
    given = Inputs(*_split(tensors)[0])
    shapes = (t.shape if t is not None and need else None for t, need in zip(given, needed))
    return _filled(given, *(None if s is None else given.input.new_empty(s) for s in shapes))


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            *results, kept = torch.ops.seqnorm.recurrence_training(*arguments)
        output, _, c_n, *statistics = results
        *ctx.call, batch_sizes = arguments[:CALL]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(batch_sizes, *arguments[CALL:], output, *statistics, kept)
        ctx.mark_non_differentiable(*statistics, *(() if c_n.numel() else (c_n,)))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        batch_sizes, *saved = ctx.saved_tensors
        needed, grads = ctx.needs_input_grad[CALL:], grads[: len(RESULTS)]
        given = Inputs(*saved[: len(Inputs._fields)])
        found: Sequence[Tensor | None]
        # True where derivatives of these gradients are needed.
        if torch.is_grad_enabled() or is_forward_mode():
            call, used = _called((*ctx.call, batch_sizes), given)
            of_output = None if grads[0] is None else grads[0][: len(used.input)]
            cotangents = of_output, *grads[1 : 1 + call.plan.states]
            found = gradients(call, used, cotangents, needed)
            found[0] = _padded(found[0], len(given.input))
        else:
            found = torch.ops.seqnorm.recurrence_backward(
                *ctx.call, batch_sizes, *saved, *grads, [bool(need) for need in needed]
            )
        of_inputs = (t if need else None for t, need in zip(found, needed))
        return *(None,) * CALL, *of_inputs


def _autograd(*arguments: Any) -> tuple[Tensor, ...]:
    """Compute ``recurrence`` where gradients may be recorded."""
    given = Inputs(*arguments[CALL:])
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        if _has_kernels(given):
            results: tuple[Tensor, ...] = _Differentiable.apply(*arguments)  # type: ignore[no-untyped-call]  # torch's own
            return results
        call, used = _called(arguments[:CALL], given)
        return in_places(call, given, definition(call, used))
    with torch._C._AutoDispatchBelowAutograd():
        found: tuple[Tensor, ...] = torch.ops.seqnorm.recurrence(*arguments)
    return found


def _one_by_one(name: str, info: Any, dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    """Call an operator for a batch of calls, as a vectorised backward pass does."""
    operator = getattr(torch.ops.seqnorm, name)
    calls = (
        # A list has a list of dims, and none of its parts is batched.
        [
            value.select(at, k) if isinstance(at, int) else value
            for value, at in zip(arguments, dims)
        ]
        for k in range(info.batch_size)
    )
    results = tuple(torch.stack(parts) for parts in zip(*(operator(*call) for call in calls)))
    return results, (0,) * len(results)


def _register() -> torch.library.Library:
    results = ", ".join(f"Tensor {name}" for name in (*RESULTS, *STATISTICS))
    passed = "".join(f", Tensor {name}" for name in ("output", *STATISTICS, "kept"))
    passed += "".join(f", Tensor? grad_{name}" for name in RESULTS) + ", bool[] needed"
    grads = ", ".join(f"Tensor grad_{name}" for name in Inputs._fields)
    library = torch.library.Library("seqnorm", "DEF")
    for name, arguments, returns, compute_it, shapes in (
        ("recurrence", _CALL, results, _forward, _forward_shapes),
        ("recurrence_training", _CALL, f"{results}, Tensor kept", _training, _training_shapes),
        ("recurrence_backward", _CALL + passed, grads, _backward, _backward_shapes),
    ):
        library.define(f"{name}({arguments}) -> ({returns})", tags=torch.Tag.pt2_compliant_tag)
        library.impl(name, compute_it, "CompositeExplicitAutograd")
        # register_fake would do the same, but searches all modules for its caller.
        library.impl(name, shapes, "Meta")
        if hasattr(torch.library, "register_vmap"):  # since torch 2.5
            rule = functools.partial(_one_by_one, name)
            torch.library.register_vmap(f"seqnorm::{name}", rule, lib=library)
    library.impl("recurrence", _autograd, "Autograd")
    return library


# The operators live as long as this object.
_OPERATORS = _register()
