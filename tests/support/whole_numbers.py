"""The definition of products with weights of int8 in the kernels, in plain torch.

Both factors of a product are whole numbers, each row of them with a step. The factors of a float64
product are rounded the same way here, and all else is computed by the reference.

Axes: R rows of a matrix, K numbers in a row, n rows of the other factor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from seqnorm.nn import backends
from seqnorm.nn.backends import reference
from seqnorm.nn.backends.cpu.plan import plan_of
from seqnorm.nn.recurrence.direction import Direction


def rounded(x: Tensor, heads: int = 1) -> Tensor:
    """Return rows (n, heads * K) as whole numbers times their step, each head by itself."""
    parts = x.reshape(len(x), heads, -1)
    limit = min(2**15 - 1, (2**31 - 1) // (127 * parts.shape[-1]))
    step = parts.abs().amax(-1, keepdim=True) / limit
    inverse = torch.where(step > 1e-37, 1 / step, 0.0)
    return ((parts * inverse).round() * step).reshape(x.shape)


def rounding(direction: Direction) -> Direction:
    """Return a direction in floating point that rounds as the kernels do."""
    hoisted = plan_of(direction).hoisted  # W_ih x is computed before the kernels, without rounding
    direction = direction.in_floats()
    step: Any = copy.copy(direction.step)
    hidden_term, advance, start = step.hidden_term, step.step, direction.start

    def of_hidden(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return hidden_term(rounded(h, step.heads or 1) if weight.dim() > 1 else h, weight, bias)

    def of_step(*arguments: Any, **own: Tensor) -> Any:
        new = advance(*arguments, **own)
        return new if direction.weight_hr is None else (rounded(new[0]), *new[1:])

    def of_input(*arguments: Any) -> Any:
        norms: Any = start(*arguments)
        whole = norms.whole

        def rows(site: str, x: Tensor) -> Tensor:
            found: Tensor = whole(site, x)
            return found if hoisted or site != "frame" else rounded(found)

        norms.whole = rows
        return norms

    step.hidden_term, step.step = of_hidden, of_step
    direction.step, direction.start = step, of_input  # type: ignore[method-assign]  # of this copy
    return direction


@contextmanager
def definition() -> Iterator[None]:
    """Compute every layer by the definition within the context."""

    def run(direction: Direction, *others: Any) -> Any:
        return reference.run(rounding(direction), *others)

    own = SimpleNamespace(
        status=lambda: (True, "in plain torch"), claims=lambda *call: None, run=run
    )
    before = backends.BACKENDS
    backends.BACKENDS = {"whole numbers": own}
    try:
        yield
    finally:
        backends.BACKENDS = before
