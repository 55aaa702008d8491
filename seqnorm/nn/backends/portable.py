"""A layer as a graph of torch's own operators alone, for programs that do not know this library.

A padded batch of any length is one ``scan``, torch's operator for a loop over time. Its body is a
step of the definition. Sequences that have ended keep their state by a mask.

Axes: T steps, B sequences, n rows, I inputs, G gates, H = hidden_size, P = size of h, F features,
S = max_steps of a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from ..recurrence import zoneout
from ..recurrence.direction import Direction
from ..recurrence.site_norms import BatchSiteNorm, FeatureNorm, SitePass, SiteRun
from ..recurrence.step import State
from ..recurrence.windows import WindowNorm
from ..statistics.moments import affine
from . import reference
from .portable_norms import Affine, TablePass, UnitsPass, parts_of, table_of

Tables = dict[str, tuple[Tensor, Tensor]]


@dataclass
class Rows:
    """The steps of one direction, in the order in which it reads them.

    Attributes:
        x: (T, B, I).
        alive: (T, B, 1), true where a sequence has a step; ``None`` if all have all steps.
        renewed: (T, B, 1), true where the state before a step is the initial one, and never in the
            padding; or ``None``.
        first: the number of the first step; a tensor () or, for each sequence, (B,).
        apart: true if sequences may be at different steps at the same time.
    """

    x: Tensor
    alive: Tensor | None
    renewed: Tensor | None
    first: Tensor | int
    apart: bool

    def reversed(self, ends_differ: bool) -> Rows:
        """Return the steps from the last to the first.

        Args:
            ends_differ: true if statistics count the steps from the end of each sequence.
        """
        renewed = self.renewed
        if renewed is not None:  # a reset stands between two steps
            renewed = torch.cat([renewed[1:], torch.zeros_like(renewed[:1])]).flip(0)
        alive = None if self.alive is None else self.alive.flip(0)
        return Rows(self.x.flip(0), alive, renewed, self.first, self.apart or ends_differ)


def refusal(direction: Direction) -> str | None:
    """Return the reason why no graph can compute a direction, with a remedy, or ``None``."""
    if direction.training and any(direction.zoneout):
        return "zoneout draws units in training: call .eval() on the model"
    for site, norm in direction.norms.items():
        if isinstance(norm, WindowNorm):
            return f"the norm at {site} has a window of several steps, which graphs do not carry"
        if not isinstance(norm, BatchSiteNorm):
            continue
        if norm.learns:
            return (
                "BatchNorm in training takes statistics of the batch and updates its tables: call "
                ".eval() on the model"
            )
        if norm.norm.beyond == "error":
            return (
                'a graph cannot refuse a step without statistics, as beyond="error" asks: set '
                'norm.beyond = table.beyond = "last" by building the layer with beyond="last"'
            )
    return None


@dataclass
class Fixed:
    """The tensors that are the same at all steps.

    Attributes:
        tensors: those of the direction.
        parts: gain and bias of each set of a norm of units, by site.
        pooled: scale and shift (1, F) of norms over time, by site.
        steps: scale and shift of all norms of every step side by side (S, .), so that one index
            finds all; or ``None``.
        widths: F of each of these norms, by site, in their order.
        initial: the initial state of the layer (1, .), for resets.
    """

    tensors: tuple[Tensor, ...]
    parts: dict[str, list[Affine]]
    pooled: Tables
    steps: Tensor | None
    widths: dict[str, int]
    initial: State

    @classmethod
    def of(cls, direction: Direction, initial: State) -> Fixed:
        parts: dict[str, list[Affine]] = {}
        tables: Tables = {}
        for site, norm in direction.norms.items():
            if isinstance(norm, FeatureNorm):
                parts[site] = parts_of(norm)
            elif isinstance(norm, BatchSiteNorm):
                tables[site] = table_of(norm)
        return cls.with_tables(direction, parts, tables, initial)

    @classmethod
    def with_tables(
        cls, direction: Direction, parts: dict[str, list[Affine]], tables: Tables, initial: State
    ) -> Fixed:
        """Return the tensors for scales and shifts (S, F) of the norms of the batch, by site."""
        over_time = {site: direction.norms[site].norm.over_time for site in tables}
        pooled = {site: table for site, table in tables.items() if over_time[site]}
        each = {site: table for site, table in tables.items() if not over_time[site]}
        found = [part for table in each.values() for part in table]
        most = max([part.shape[0] for part in found], default=0)
        # The last row of a table holds for all steps beyond it.
        whole = [torch.cat([part, part[-1:].expand(most - len(part), -1)]) for part in found]
        steps = torch.cat(whole, 1) if found else None
        widths = {site: scale.shape[1] for site, (scale, _) in each.items()}
        return cls(direction.tensors, parts, pooled, steps, widths, initial)

    @property
    def finishes(self) -> bool:
        """True if each step finishes its input term.

        Beside norms of every step, a norm over time is computed by the steps too, because all
        shifts are then one sum.
        """
        beside = bool(self.widths) and "input" in self.pooled
        return beside or "frame" in self.widths or "input" in self.widths

    def norms(self, direction: Direction, number: Tensor | None = None) -> SiteRun:
        """Return the norms of a direction that holds ``tensors``.

        Args:
            number: the number of the step, () or (n,); ``None`` for norms that are the same at
                all steps.
        """
        here = dict(self.pooled)
        if self.steps is not None and number is not None:
            row = F.embedding(number.clamp(max=self.steps.shape[0] - 1), self.steps)
            pieces = iter(
                row.split([width for width in self.widths.values() for _ in range(2)], -1)
            )
            here.update({site: (next(pieces), next(pieces)) for site in self.widths})
        passes: dict[str, SitePass] = {}
        for site, norm in direction.norms.items():
            if site in here:
                passes[site] = TablePass(norm, *here[site])
            elif isinstance(norm, FeatureNorm):
                passes[site] = UnitsPass(norm, self.parts[site])
            else:
                passes[site] = SitePass(norm)
        return SiteRun(passes)


def run(direction: Direction, rows: Rows, state: State, initial: State) -> tuple[Tensor, State]:
    """Compute outputs (T, B, P) and the final state of a direction. Padded outputs are any numbers.

    Args:
        state: (1, B, P) and (1, B, H), before the first step.
        initial: (1, P) and (1, H), the state after a reset.
    """
    direction = with_joint_biases(direction)
    # A copy, because both states may be the same memory.
    renewing = rows.renewed is not None
    fixed = Fixed.of(direction, tuple([part.clone() for part in initial]) if renewing else ())
    return run_fixed(direction, fixed, rows, state)


def run_fixed(
    direction: Direction, fixed: Fixed, rows: Rows, state: State, finished: bool = False
) -> tuple[Tensor, State]:
    """Compute the results of ``run`` from what is the same at all steps.

    Args:
        finished: true if ``rows.x`` (T, B, G * H) is the finished input term. Then ``fixed`` has
            no table for the norms before it.
    """
    steps, x = rows.x.shape[0], rows.x
    # Only h keeps its first axis within the loop. ONNX takes no result there as both a state and an
    # output, and h without the axis is another one.
    h, *others = state
    carry: dict[str, Any] = {"state": (h, *(part.squeeze(0) for part in others))}
    if fixed.steps is not None:
        first = rows.first
        if not isinstance(first, Tensor):  # an operation, because a graph may not take a constant
            first = x.new_full((), first, dtype=torch.int64)
        carry["number"] = first.expand(x.shape[1]).clone() if rows.apart else first.clone()
    # The products of all steps are one. A norm of every step is computed within the loop.
    whole = fixed.norms(direction)
    if not finished and "frame" not in fixed.widths:
        x = reference.product(direction, whole, x)
        if not fixed.finishes:
            x = reference.finish(direction, whole, x)
    xs: dict[str, Any] = {"x": x, "alive": rows.alive, "renewed": rows.renewed}

    if isinstance(steps, int) and steps == 1:  # not a symbol
        here = {name: None if rows is None else rows[0] for name, rows in xs.items()}
        carry, output = _step(direction, carry, here, fixed)
        outputs = output[None]
    else:
        carry, outputs = _scan(direction, carry, xs, fixed)
    if "output" not in fixed.widths:
        outputs = whole.whole("output", outputs)
    h, *others = carry["state"]
    return outputs, (h, *(part.unsqueeze(0) for part in others))


def with_joint_biases(direction: Direction) -> Direction:
    """Return a direction whose norms add the vectors that are added after them."""
    changed: dict[str, Any] = {}
    norms = dict(direction.norms)
    for name, site in (("bias_ih", "input"), ("bias_hh", "hidden")):
        bias, norm = direction.named[name], norms.get(site)
        if bias is None or norm is None or getattr(direction.scheme, name) != "outside":
            continue
        own = [getattr(norm, parameter) for parameter in norm.own]
        norms[site] = norm.holding(norm.weight, affine(bias, None, norm.bias), *own)
        changed[name] = None
    return replace(direction, norms=norms, **changed) if changed else direction


def _step(direction: Direction, carry: Any, xs: Any, fixed: Fixed) -> tuple[Any, Tensor]:
    """Compute one step.

    Args:
        carry: "state", (1, n, P) and (n, .) for all other parts, and, for norms of every step,
            "number", the number of the step, () or, for each sequence, (n,).
        xs: "x" (n, .), the input term as far as it is finished; "alive" and "renewed" (n, 1) or
            ``None``.

    Returns:
        The carry of the next step, and the output (n, P).
    """
    alive, renewed, x = xs["alive"], xs["renewed"], xs["x"]
    h, *others = carry["state"]
    state, number = (h.squeeze(0), *others), carry.get("number")
    if renewed is not None:
        state = tuple(torch.where(renewed, new, old) for new, old in zip(fixed.initial, state))
        if number is not None:
            number = torch.where(renewed[:, 0], 0, number)
    norms = fixed.norms(direction, number)
    if "frame" in fixed.widths:
        x = reference.product(direction, norms, x)
    if fixed.finishes:
        x = reference.finish(direction, norms, x)
    stays = zoneout.draw(direction.zoneout, False, 0, state)
    new = reference.advance(direction, norms, x, state, 0, stays)
    output = norms.whole("output", new[0]) if "output" in fixed.widths else new[0]
    if alive is not None:
        new = tuple(torch.where(alive, after, before) for after, before in zip(new, state))
    found: dict[str, Any] = {"state": (new[0].unsqueeze(0), *new[1:])}
    if number is not None:
        by_sequence = alive is not None and number.dim() > 0
        found["number"] = number + (alive[:, 0].long() if by_sequence else 1)
    return found, output


def run_cell(
    direction: Direction,
    x: Tensor,
    state: State,
    initial: State,
    first: Tensor | int,
    renewed: Tensor | None,
) -> State:
    """Compute the state after one step.

    Args:
        x: (B, I).
        state: (B, H) for each part.
        initial: (1, H) for each part, the state after a reset.
        first: the number of the step, see ``Rows``.
        renewed: (B, 1), see ``Rows``.
    """
    apart = renewed is not None or (isinstance(first, Tensor) and first.dim() > 0)
    again = None if renewed is None else renewed[None]
    before = tuple([part[None] for part in state])
    _, after = run(direction, Rows(x[None], None, again, first, apart), before, initial)
    return tuple([part.squeeze(0) for part in after])


def _scan(direction: Direction, carry: Any, xs: Any, fixed: Fixed) -> tuple[Any, Tensor]:
    """Apply ``_step`` to each step by torch's operator, which takes flat lists of tensors."""
    from torch._higher_order_ops.scan import scan_op

    given = carry, xs, vars(fixed)
    leaves, form = pytree.tree_flatten(given)
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def body(*tensors: Tensor) -> tuple[Tensor, ...]:
        held: list[Any] = list(leaves)
        for place, tensor in zip(places, tensors):
            held[place] = tensor
        before, here, constants = pytree.tree_unflatten(held, form)
        inside = Fixed(**constants)
        after, output = _step(direction.holding(inside.tensors), before, here, inside)
        # Results may share memory neither with arguments nor with each other.
        return tuple([result.clone() for result in (*pytree.tree_leaves(after), output)])

    parts = [[t for t in pytree.tree_leaves(part) if isinstance(t, Tensor)] for part in given]
    # The compiler of C++ programs finds B, if it is a symbol, among the arguments alone.
    batch = [size for size in parts[1][0].shape[1:2] if isinstance(size, torch.SymInt)]
    *after, outputs = scan_op(body, parts[0], parts[1], (*parts[2], *batch))
    return pytree.tree_unflatten(after, pytree.tree_structure(carry)), outputs
