"""The definition: one step at a time in plain PyTorch, differentiable to any order.

Axes: B sequences, N packed rows, n rows alive at a step, I inputs, H = hidden_size, P = size of h.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..recurrence import zoneout
from ..recurrence.direction import Direction
from ..recurrence.packing import Packing
from ..recurrence.scan import scan
from ..recurrence.scheme import WITHIN, NormScheme
from ..recurrence.site_norms import SiteRun
from ..recurrence.step import State
from ..statistics.processes import the_same
from .watching import refuse_fixed_length, refuse_freed


def status() -> tuple[bool, str]:
    """Return True, as plain PyTorch always exists, and a description."""
    return True, "plain PyTorch, for every call"


def claims(direction: Direction, rows: Tensor, packing: Packing, state: State) -> str | None:
    """Return ``None``: the definition takes every call."""
    return None


def run(direction: Direction, rows: Tensor, packing: Packing, state: State) -> tuple[Tensor, State]:
    """Compute packed outputs and final state from packed inputs (N, I) and state (B, P), (B, H)."""
    refuse_freed((rows, *state, *direction.tensors))
    refuse_fixed_length()
    direction = direction.in_floats()
    sizes, first = packing.batch_sizes, packing.first
    norms = direction.start(sizes, first, packing.totals)
    drawn = zoneout.draw(direction.zoneout, direction.training, rows.shape[0], state)
    x = input_term(direction, norms, rows)
    outputs, final = unroll(direction, norms, x, sizes, state, zoneout.steps(drawn, sizes), first)
    if sizes:
        _check_met(direction, norms)
    outputs = norms.whole("output", outputs)
    norms.close()
    if packing.empty:
        # All results depend on all tensors, with gradients of zero. A batch without rows then has a
        # backward pass like any other, and no process waits in vain for a parameter's gradient.
        tensors = (rows, *state, *direction.tensors)
        nothing = sum(tensor.reshape(-1)[:0].sum() for tensor in tensors)  # reads no element
        return outputs + nothing, tuple(part + nothing for part in final)
    return outputs, final


def unroll(
    direction: Direction,
    norms: SiteRun,
    x: Tensor,
    sizes: list[int],
    state: State,
    stays: Sequence[Sequence[zoneout.Stay]],
    first: int = 0,
) -> tuple[Tensor, State]:
    """Compute packed outputs and final state from finished input terms (N, G * H), step by step.

    Args:
        sizes: rows of each step.
        stays: for each step, the units of each part of the state that zoneout holds back.
        first: number of the first step.
    """

    def step(x: Tensor, state: State, t: int) -> State:
        return advance(direction, norms, x, state, first + t, stays[t])

    return scan(step, x, sizes, state)


def rows_together(direction: Direction, x: Tensor, t: int | None) -> list[int] | None:
    """Return the rows of a step x (B, I) in all processes that share its statistics, if any do.

    Args:
        t: the number of the step; ``None`` if rows are at different steps.
    """
    processes = the_same(direction.shared_with())
    return None if processes is None else [sum(processes.sizes(len(x), t, x.device))]


def single(
    direction: Direction, x: Tensor, state: State, t: int, totals: list[int] | None
) -> State:
    """Compute step ``t`` of a cell from x (B, I) and state (B, P), (B, H)."""
    direction = direction.in_floats()
    norms = direction.start([len(x)], t, totals)
    drawn = zoneout.draw(direction.zoneout, direction.training, len(x), state)
    state = advance(direction, norms, input_term(direction, norms, x), state, t, drawn)
    _check_met(direction, norms)
    norms.close()
    return state


def _check_met(direction: Direction, norms: SiteRun) -> None:
    """Raise ValueError if the scheme has a norm that the step has not applied."""
    for site in norms.unmet():
        raise ValueError(
            f"{direction.step.name}.step never calls norm({site!r}, ...), so the norm at that site "
            f"would have no effect: call it, or leave {site}=None in the scheme"
        )


def input_term(direction: Direction, norms: SiteRun, rows: Tensor) -> Tensor:
    """Return N_input(W_ih N_frame(x)) + b (N, G * H) of all rows (N, I) at once."""
    return finish(direction, norms, product(direction, norms, rows))


def product(direction: Direction, norms: SiteRun, rows: Tensor) -> Tensor:
    """Return W_ih N_frame(x) (N, G * H), with a bias that stands inside of the next norm."""
    rows = norms.whole("frame", rows)
    return F.linear(rows, direction.weight_ih, _bias(direction, "bias_ih", "inside"))


def finish(direction: Direction, norms: SiteRun, x: Tensor) -> Tensor:
    """Return the input term (N, G * H) from what ``product`` returns."""
    return _add(norms.whole("input", x), _bias(direction, "bias_ih", "outside"))


def advance(
    direction: Direction,
    norms: SiteRun,
    x: Tensor,
    state: State,
    t: int,
    stays: Sequence[zoneout.Stay],
) -> State:
    """Return the state after step t, from the finished input term x (n, G * H)."""
    before = _bias(direction, "bias_hh", "inside")
    h = direction.step.hidden_term(state[0], direction.weight_hh, before)
    h = _add(norms("hidden", h, t), _bias(direction, "bias_hh", "outside"))

    def norm(site: str, z: Tensor) -> Tensor:
        if site not in WITHIN:
            raise ValueError(f"a step normalises at {', '.join(map(repr, WITHIN))}, not {site!r}")
        return norms(site, z, t)

    new = direction.step.step(x, h, state, norm, direction.scheme, **direction.own)
    _check_new(direction, new, x, state)
    if direction.weight_hr is not None:
        new = (F.linear(new[0], direction.weight_hr), *new[1:])
    # Under autocast products are in half precision; the state keeps its own dtype.
    return tuple(
        zoneout.keep(after, before, stay).to(before.dtype)
        for after, before, stay in zip(new, state, stays)
    )


def _check_new(direction: Direction, new: State, x: Tensor, state: State) -> None:
    """Raise TypeError or ValueError unless a step has returned its next state."""
    step = direction.step
    wanted = f"{step.name}.step must return a tuple of {len(state)} tensors (n, H), one for each "
    wanted += f"of {', '.join(step.states)}"
    if not isinstance(new, tuple):
        raise TypeError(f"{wanted}, got {type(new).__name__}")
    if len(new) != len(state):
        raise ValueError(f"{wanted}, got {len(new)}")
    hidden = x.shape[-1] // len(step.gates)
    for part in new:
        if part.shape[-1] != hidden or part.dim() != 2:
            raise ValueError(f"{wanted}, got a tensor {tuple(part.shape)} for H = {hidden}")


def _bias(direction: Direction, name: str, place: str) -> Tensor | None:
    """Return the bias vector of a name if it stands at a place, "inside" or "outside"."""
    bias: Tensor | None = getattr(direction, name)
    return bias if NormScheme.place_of(direction.scheme, name) in (place, "both") else None


def _add(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias
