"""A layer as a graph of torch's own operators alone, for programs that do not know this library.

A padded batch of any length is one ``scan``, torch's operator for a loop over time. Its body is a
step of the definition. Sequences that have ended keep their state by a mask.

Axes: T steps, B sequences, n rows, I inputs, G gates, H = hidden_size, P = size of h, F features,
S = max_steps of a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from ..recurrence import zoneout
from ..recurrence.direction import Direction
from ..recurrence.scheme import WITHIN
from ..recurrence.site_norms import BatchSiteNorm, FeatureNorm, SitePass, SiteRun
from ..recurrence.step import State
from ..recurrence.windows import WindowNorm
from ..statistics.moments import affine
from . import reference
from .portable_norms import Affine, TablePass, UnitsPass, parts_of, table_of

Tables = dict[str, tuple[Tensor, Tensor]]
# The sites outside of the loop, and those within.
_WHOLE = ("frame", "input", "output")
_LOOP = ("hidden", *WITHIN)


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
        tables: scale and shift (S, F) of norms of every step, by site.
        initial: the initial state of the layer (1, .), for resets.
    """

    tensors: tuple[Tensor, ...]
    parts: dict[str, list[Affine]]
    pooled: Tables
    tables: Tables
    initial: State

    @classmethod
    def of(cls, direction: Direction, initial: State) -> Fixed:
        parts: dict[str, list[Affine]] = {}
        pooled: Tables = {}
        tables: Tables = {}
        for site, norm in direction.norms.items():
            if isinstance(norm, FeatureNorm):
                parts[site] = parts_of(norm)
            elif isinstance(norm, BatchSiteNorm):
                (pooled if norm.norm.over_time else tables)[site] = table_of(norm)
        return cls(direction.tensors, parts, pooled, tables, initial)

    def norms(self, direction: Direction, here: Tables) -> SiteRun:
        """Return the norms of a direction that holds ``tensors``.

        Args:
            here: scale and shift of the step, by site.
        """
        here = {**self.pooled, **here}
        passes: dict[str, SitePass] = {}
        for site, norm in direction.norms.items():
            if site in here:
                passes[site] = TablePass(norm, *here[site])
            elif isinstance(norm, FeatureNorm):
                passes[site] = UnitsPass(norm, self.parts[site])
            else:
                passes[site] = SitePass(norm)
        return SiteRun(passes)

    def joined(self, sites: Iterable[str]) -> Tensor | None:
        """Return scale and shift of some sites side by side, so that one index finds all."""
        found = [part for site in sites for part in self.tables.get(site, ())]
        most = max([part.shape[0] for part in found], default=0)
        # The last row of a table holds for all steps beyond it.
        whole = [torch.cat([part, part[-1:].expand(most - len(part), -1)]) for part in found]
        return torch.cat(whole, 1) if found else None

    def apart(self, joined: Tensor | None, sites: Iterable[str]) -> Tables:
        """Return scale and shift (., F) by site from rows of what ``joined`` returns."""
        if joined is None:
            return {}
        here = [site for site in sites if site in self.tables]
        widths = [self.tables[site][0].shape[1] for site in here for _ in range(2)]
        parts = iter(joined.split(widths, -1))
        return {site: (next(parts), next(parts)) for site in here}


def run(direction: Direction, rows: Rows, state: State, initial: State) -> tuple[Tensor, State]:
    """Compute outputs (T, B, P) and the final state of a direction. Padded outputs are any numbers.

    Args:
        state: (B, P) and (B, H), before the first step.
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
        finished: true if ``rows.x`` (T, B, G * H) is the finished input term.
    """
    steps, device = rows.x.shape[0], rows.x.device
    xs: dict[str, Any] = {"x": rows.x, "alive": rows.alive, "renewed": rows.renewed, "here": None}
    carry: dict[str, Any] = {"state": state}
    whole: SiteRun | None = None
    if fixed.tables and rows.apart:
        first = torch.as_tensor(rows.first, dtype=torch.int64, device=device)
        carry["number"] = first.expand(rows.x.shape[1]).clone()
    else:
        outside: Tables = {}
        if fixed.tables:
            numbers = torch.arange(steps, device=device) + rows.first
            outside = fixed.apart(_at(fixed.joined(_WHOLE), numbers), _WHOLE)
            xs["here"] = _at(fixed.joined(_LOOP), numbers)
        whole = fixed.norms(direction, outside)
        if not finished:
            xs["x"] = reference.input_term(direction, whole, rows.x)

    if isinstance(steps, int) and steps == 1:  # not a symbol
        here = {name: None if rows is None else rows[0] for name, rows in xs.items()}
        carry, output = _step(direction, carry, here, fixed)
        outputs = output[None]
    else:
        carry, outputs = _scan(direction, carry, xs, fixed)
    if whole is not None:
        outputs = whole.whole("output", outputs)
    return outputs, carry["state"]


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


def _at(tables: Tensor | None, numbers: Tensor) -> Tensor | None:
    """Return the rows (T, 1, F) of tables (S, F) for the steps of these numbers (T,)."""
    if tables is None:
        return None
    return F.embedding(numbers.clamp(max=tables.shape[0] - 1)[:, None], tables)


def _step(direction: Direction, carry: Any, xs: Any, fixed: Fixed) -> tuple[Any, Tensor]:
    """Compute one step.

    Args:
        carry: "state" and, if sequences are at different steps, "number" (n,), the number of each.
        xs: "x" (n, G * H), the finished input term or, beside "number", (n, I); "alive" and
            "renewed" (n, 1) or ``None``; without "number" also "here" (1, F), scale and shift of
            all norms of every step, or ``None``.

    Returns:
        The carry of the next step, and the output (n, P).
    """
    state, alive, renewed = carry["state"], xs["alive"], xs["renewed"]
    if renewed is not None:
        state = tuple(torch.where(renewed, new, old) for new, old in zip(fixed.initial, state))
    number, x = carry.get("number"), xs["x"]
    if number is None:
        norms = fixed.norms(direction, fixed.apart(xs["here"], _LOOP))
    else:
        if renewed is not None:
            number = torch.where(renewed[:, 0], 0, number)
        tables = fixed.joined(_WHOLE + _LOOP)
        assert tables is not None
        here = F.embedding(number.clamp(max=tables.shape[0] - 1), tables)
        norms = fixed.norms(direction, fixed.apart(here, _WHOLE + _LOOP))
        x = reference.input_term(direction, norms, x)
    stays = zoneout.draw(direction.zoneout, False, 0, state)
    new = reference.advance(direction, norms, x, state, 0, stays)
    output = new[0]
    if number is not None:
        output = norms.whole("output", output)
    if alive is not None:
        new = tuple(torch.where(alive, after, before) for after, before in zip(new, state))
    found = {"state": new}
    if number is not None:
        found["number"] = number + 1 if alive is None else number + alive[:, 0].long()
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
    return run(direction, Rows(x[None], None, again, first, apart), state, initial)[1]


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
        # Results may be neither arguments nor the same tensor.
        results: list[Tensor] = []
        for result in (*pytree.tree_leaves(after), output):
            known = any(result is other for other in (*tensors, *results))
            results.append(result.clone() if known else result)
        return tuple(results)

    parts = [[t for t in pytree.tree_leaves(part) if isinstance(t, Tensor)] for part in given]
    # The compiler of C++ programs finds B, if it is a symbol, among the arguments alone.
    batch = [size for size in parts[1][0].shape[1:2] if isinstance(size, torch.SymInt)]
    *after, outputs = scan_op(body, parts[0], parts[1], (*parts[2], *batch))
    return pytree.tree_unflatten(after, pytree.tree_structure(carry)), outputs
