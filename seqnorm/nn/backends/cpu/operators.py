"""A layer in one or two directions as an operator of autograd."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from ..watching import all_plain, is_forward_mode
from . import kernels
from .call import Call, Inputs
from .definition import gradients

_SIZE = len(Inputs._fields)


class Engine(Protocol):
    """A module that computes passes, as ``kernels`` does.

    ``Forward(call, inputs, keep)`` has ``results`` and what it has ``kept`` for
    ``Backward(call, inputs, results, kept, grads, needed)``.
    """

    Forward: Any
    Backward: Any
    compute: Any
    compute_gradients: Any


def recurrence(call: Call, inputs: Inputs, engine: Engine = kernels) -> tuple[Tensor, ...]:
    """Compute one direction of a layer by an engine.

    Returns:
        output (N, P), h_n (B, P)[, c_n (B, H), of an sLSTM (B, 3 * H)], and for each norm of x, h
        and c that computes statistics of these rows, mean and 1 / deviation (T, 2, .) and variance
        (T, .), which have no gradient.
    """
    return recurrences([(call, inputs)], engine)[0]


def recurrences(
    calls: Sequence[tuple[Call, Inputs]], engine: Engine = kernels
) -> list[tuple[Tensor, ...]]:
    """Compute up to ``library.TOGETHER`` calls of one dtype concurrently, see ``recurrence``."""
    # Loops, because comprehensions and generators are calls of their own.
    every: list[Tensor | None] = []
    for _, inputs in calls:
        every += inputs
    if torch.is_grad_enabled():
        for tensor in every:
            if tensor is not None and tensor.requires_grad:
                found = Recurrence.apply(engine, calls, *every)  # type: ignore[no-untyped-call]  # torch's own
                if len(calls) == 1:
                    return [found]
                return _split(found, [number_of_results(*call) for call in calls])
    passes = []
    for call, inputs in calls:
        passes.append(engine.Forward(call, inputs, False))
    engine.compute(passes)
    return [one.results for one in passes]


def number_of_results(call: Call, inputs: Inputs) -> int:
    """Return how many results a call has: output, states, and statistics."""
    return 1 + call.plan.states + 2 * len(call.own(inputs))


class Recurrence(torch.autograd.Function):
    """``recurrences`` with gradients: all results of all calls, one after another."""

    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        calls: Sequence[tuple[Call, Inputs]],
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        passes = []
        for number, (call, _) in enumerate(calls):
            inputs = Inputs._make(tensors[number * _SIZE : (number + 1) * _SIZE])
            passes.append(engine.Forward(call, inputs, True))
        engine.compute(passes)
        ctx.engine = engine
        ctx.calls, ctx.kept, ctx.statistics = [], [], []
        outputs: list[Tensor] = []
        results: list[Tensor] = []
        own: list[Tensor] = []
        for one in passes:
            ctx.calls.append(one.call)
            ctx.kept.append(one.kept)
            outputs.append(one.results[0])
            results += one.results
            ctx.statistics.append(one.results[1 + one.call.plan.states :])
            own += ctx.statistics[-1]
        ctx.save_for_backward(*tensors, *outputs)
        ctx.mark_non_differentiable(*own)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        engine, calls, saved = ctx.engine, ctx.calls, ctx.saved_tensors
        every = [_SIZE] * len(calls)
        inputs = [Inputs._make(part) for part in _split(saved, every)]
        outputs = saved[_SIZE * len(calls) :]
        needed = _split(ctx.needs_input_grad[2:], every)
        sizes = [number_of_results(*pair) for pair in zip(calls, inputs)]
        cotangents = [
            part[: 1 + call.plan.states] for call, part in zip(calls, _split(grads, sizes))
        ]
        # True where derivatives of these gradients are needed.
        again = torch.is_grad_enabled() or is_forward_mode()
        if again or not all_plain([grad for grad in grads if grad is not None]):
            found = [gradients(*each) for each in zip(calls, inputs, cotangents, needed)]
            return None, None, *[grad for each in found for grad in each]
        # The gradients overwrite the kept values, so a second backward pass computes them again.
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            passes = [engine.Forward(*pair, True) for pair in zip(calls, inputs)]
            engine.compute(passes)
            kept = [one.kept for one in passes]
        ends = (None,) * calls[0].plan.states  # not read
        results = [(output, *ends, *own) for output, own in zip(outputs, ctx.statistics)]
        each_call = zip(calls, inputs, results, kept, cotangents, needed)
        found = engine.compute_gradients([engine.Backward(*each) for each in each_call])
        return None, None, *[grad for each in found for grad in each]


def _split(values: Sequence[Any], sizes: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return consecutive parts of these sizes."""
    rest = iter(values)
    return [tuple(islice(rest, size)) for size in sizes]
