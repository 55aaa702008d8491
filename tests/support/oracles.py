"""Float64 definitions of the normalised recurrent layers: one row, one step, one set at a time.

The equations of the cells are in oracle_cells.py, the running statistics in oracle_tables.py; none
of them imports seqnorm. A batch is a list
of sequences of different lengths, so there is no padding and no mask: the rows of step k are the
rows of the sequences that have a step k. Everything is differentiable, so that gradients can be
compared as well.

Axes: T steps, B sequences, I = input size, H = hidden size, P = size of h (H, or proj_size).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from oracle_cells import GATES, STEPS, hidden_product
from oracle_tables import Table, scaled
from torch import Tensor


@dataclass
class Site:
    """One norm of one layer and direction."""

    norm: Any
    pieces: list[int]
    weight: Tensor | None
    bias: Tensor | None
    table: Table | None
    training: bool
    alpha: Tensor | None = None
    shift: Tensor | None = None
    # Rows before the norm, by the number of their sequence and their step.
    met: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def alone(self, row: Tensor) -> Tensor:
        """Compute each number by itself; erf by the normal distribution, of which it is a form."""
        assert self.alpha is not None
        if self.norm.kind == "dynamic_tanh":
            return torch.stack([torch.tanh(number * self.alpha[0]) for number in row])
        assert self.shift is not None
        arguments = [number * self.alpha[0] + self.shift[0] for number in row]
        return torch.stack([2 * torch.special.ndtr(z * 2**0.5) - 1 for z in arguments])

    def within_row(self, row: Tensor, earlier: Sequence[Tensor]) -> Tensor:
        """Normalise a row by its own numbers and those of earlier rows."""
        parts, start = [], 0
        for size in self.pieces:
            part = row[start : start + size]
            seen = size
            if self.norm.part is not None:  # the smallest number that is at least part * size
                seen = min(n for n in range(1, size + 1) if n >= self.norm.part * size - 1e-9)
            numbers = torch.cat([each[start : start + seen] for each in (*earlier, row)])
            mean = torch.zeros(()).double()
            if self.norm.kind == "layer":
                mean = numbers.sum() / len(numbers)
            var = ((numbers - mean) ** 2).sum() / len(numbers)
            start += size
            parts.append(scaled(part, mean, var, self.norm))
        assert start == len(row)
        return torch.cat(parts)

    def over_rows(self, step: int, rows: list[Tensor]) -> list[Tensor]:
        assert self.table is not None
        n = len(rows)
        # A step past the table is read from it in training as in inference.
        if self.training and n >= self.norm.min_count and step < len(self.table.count):
            mean = sum(rows) / n
            var = sum((row - mean) ** 2 for row in rows) / n
            r, d = self.correction(step, mean.detach(), var.detach())
            self.table.update(step, rows, self.norm)
        else:
            mean, var = self.table.stand_in(step, self.norm.beyond, self.training)
            r, d = torch.ones_like(mean), torch.zeros_like(mean)
        return [scaled(row, mean, var, self.norm) * r + d for row in rows]

    def correction(self, step: int, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and d of Batch Renormalization, unit by unit, from the table as it is."""
        assert self.table is not None
        r, d = torch.ones_like(mean), torch.zeros_like(mean)
        if self.norm.r_max is None or self.table.count[step] == 0:
            return r, d
        eps = self.norm.eps
        for j in range(len(mean)):
            running = float(self.table.var[step][j])
            if self.norm.eps_on == "var":
                own, usual = math.sqrt(float(var[j]) + eps), math.sqrt(running + eps)
            else:
                own, usual = math.sqrt(float(var[j])) + eps, math.sqrt(running) + eps
            shift = (float(mean[j]) - float(self.table.mean[step][j])) / usual
            r[j] = min(max(own / usual, 1 / self.norm.r_max), self.norm.r_max)
            d[j] = min(max(shift, -self.norm.d_max), self.norm.d_max)
        return r, d

    def over_steps(
        self,
        rows: list[Tensor],
        places: Sequence[tuple[int, int]],
        begins: Sequence[Sequence[int]],
    ) -> list[Tensor]:
        """Normalise rows by the steps of their windows, none of them before the sequence begins."""
        self.met.update(zip(places, rows))
        found = []
        for (b, t), row in zip(places, rows):
            first = max(begins[b][t], t + 1 - (self.norm.window or 1))
            found.append(self.within_row(row, [self.met[b, s] for s in range(first, t)]))
        return found

    def __call__(
        self,
        step: int,
        rows: list[Tensor],
        places: Sequence[tuple[int, int]] = (),
        begins: Sequence[Sequence[int]] = (),
    ) -> list[Tensor]:
        """Normalise the rows of this step.

        Args:
            places: the number of the sequence of each row, and its step there; not for the batch.
            begins: for each step of each sequence, the last one at which it has begun.
        """
        if self.norm.kind in ("layer", "rms"):
            rows = self.over_steps(rows, places, begins)
        elif self.norm.kind.startswith("dynamic"):
            rows = [self.alone(row) for row in rows]
        else:
            rows = self.over_rows(step, rows)
        if self.weight is not None:
            rows = [row * self.weight for row in rows]
        if self.bias is not None:
            rows = [row + self.bias for row in rows]
        return rows


def pieces(norm: Any, gates: str, span: str, units: int, heads: int) -> list[int]:
    """Return the units of each set of a norm over the gates of ``span``, or over other units."""
    total = max(len(span), 1) * units
    if isinstance(norm.sets, int):
        return [total // norm.sets] * norm.sets
    if norm.sets == "heads":
        return [units // heads] * (max(len(span), 1) * heads)
    if not span or norm.sets == "joint":
        return [total]
    division = list(gates) if norm.sets == "separate" else norm.sets
    return [len(part) * units for part in division if part in span]


@dataclass
class Direction:
    """One layer in one direction: parameters, norms, and the loop over its steps."""

    cell: str
    scheme: Any
    hidden: int
    parameters: Mapping[str, Tensor]
    tables: Mapping[str, Table]
    suffix: str
    training: bool
    zoneout: Sequence[float]
    nonlinearity: str
    heads: int

    def __post_init__(self) -> None:
        gates = GATES[self.cell]
        summed = None if self.scheme is None else self.scheme.sum
        # If a set in a GRU's sum is only a part of it, the candidate has a norm of its own.
        self.one_sum = self.cell != "GRU" or (summed is not None and summed.sets == "joint")
        self.step = 0
        self.numbers: list[list[int]] = []
        self.begins: list[list[int]] = []
        self.places: list[tuple[int, int]] = []
        self.w_ih = self.parameters[f"weight_ih_{self.suffix}"]
        self.w_hh = self.parameters[f"weight_hh_{self.suffix}"]
        w_hr = self.get(f"weight_hr_{self.suffix}")
        width = self.hidden if w_hr is None else len(w_hr)
        self.sites = {
            "frame": self.site("frame", "norm_frame", "", self.w_ih.shape[1]),
            "input": self.site("input", "norm_ih", gates),
            "hidden": self.site("hidden", "norm_hh", gates),
            "sum": self.site("sum", "norm_sum", gates if self.one_sum else "rz"),
            "candidate": None if self.one_sum else self.site("sum", "norm_candidate", "n"),
            "cell": self.site("cell", "norm_cell", ""),
            "output": self.site("output", "norm_output", "", width),
        }

    def get(self, name: str) -> Tensor | None:
        return self.parameters.get(name)

    def site(self, field_name: str, module: str, span: str, units: int = 0) -> Site | None:
        norm = getattr(self.scheme, field_name) if self.scheme is not None else None
        if norm is None:
            return None
        name = f"{module}_{self.suffix}"
        return Site(
            norm,
            pieces(norm, GATES[self.cell], span, units or self.hidden, self.heads),
            self.get(name + ".weight"),
            self.get(name + ".bias"),
            self.tables.get(name + ".table."),
            self.training,
            self.get(name + ".alpha"),
            self.get(name + ".shift"),
        )

    def norm(self, site: str, rows: list[Tensor]) -> list[Tensor]:
        """Normalise the rows of this step at a site; without a norm they are unchanged."""
        found = self.sites[site]
        return rows if found is None else found(self.step, rows, self.places, self.begins)

    def whole(self, site: str, sequences: list[list[Tensor]]) -> list[list[Tensor]]:
        """Normalise every row of every sequence at a site outside of the recurrence."""
        found = self.sites[site]
        places = [(b, k) for b, rows in enumerate(sequences) for k in range(len(rows))]
        if found is None or not places:
            return sequences
        if found.norm.kind == "batch_pooled":
            sets = [places]
        else:
            numbers = [self.numbers[b][t] for b, t in places]
            sets = [[p for p, n in zip(places, numbers) if n == k] for k in range(max(numbers) + 1)]
        done = [list(rows) for rows in sequences]
        for k, places in enumerate(sets):
            if not places:
                continue
            rows = [sequences[b][t] for b, t in places]
            for (b, t), row in zip(places, found(k, rows, places, self.begins)):
                done[b][t] = row
        return done

    def place(self, name: str) -> str | None:
        if self.scheme is None:
            return "outside"
        return getattr(self.scheme, name)

    def term(self, which: str, value: Tensor, at: str) -> Tensor:
        """Add the bias vector of a term, before ("inside") or after the norm."""
        bias = self.get(f"bias_{which}_{self.suffix}")
        if bias is None or self.place(f"bias_{which}") not in (at, "both"):
            return value
        return value + bias

    def run(
        self,
        sequences: list[list[Tensor]],
        states: list[tuple[Tensor, ...]],
        anew: list[list[bool]],
        first: Sequence[int],
        own: tuple[Tensor, ...],
    ) -> tuple[list[list[Tensor]], list[tuple[Tensor, ...]]]:
        """Return outputs of every sequence in the order of its steps, and its final states.

        Args:
            anew: true at a step whose state before it is ``own``; its number is 0.
            first: the number of the first step of each sequence, unless it begins anew.
        """
        self.numbers = []
        self.begins = [
            [max([0, *[s for s in range(t + 1) if flags[s]]]) for t in range(len(flags))]
            for flags in anew
        ]
        for flags, number in zip(anew, first):
            self.numbers.append([])
            for flag in flags:
                number = 0 if flag else number
                self.numbers[-1].append(number)
                number += 1
        x_terms = [
            [self.term("ih", self.w_ih @ frame, "inside") for frame in sequence]
            for sequence in self.whole("frame", sequences)
        ]
        x_terms = self.whole("input", x_terms)
        after: list[list[tuple[Tensor, ...]]] = [[state] * len(s) for state, s in zip(states, anew)]
        for k in range(max((n for numbers in self.numbers for n in numbers), default=-1) + 1):
            self.step = k
            every = [(b, t) for b, numbers in enumerate(self.numbers) for t in range(len(numbers))]
            rows = [(b, t) for b, t in every if self.numbers[b][t] == k]
            if not rows:
                continue
            self.places = rows
            old = [own if anew[b][t] else after[b][t - 1] if t > 0 else states[b] for b, t in rows]
            hs = [hidden_product(self.cell, self.w_hh, state[0], self.heads) for state in old]
            hs = self.norm("hidden", [self.term("hh", h, "inside") for h in hs])
            hs = [self.term("hh", h, "outside") for h in hs]
            xs = [self.term("ih", x_terms[b][t], "outside") for b, t in rows]
            for (b, t), was, now in zip(rows, old, STEPS[self.cell](self, xs, hs, old)):
                chances = [*self.zoneout, *[0.0] * len(was)]
                after[b][t] = tuple(
                    p * before + (1 - p) * after for p, before, after in zip(chances, was, now)
                )
        outputs = [[state[0] for state in done] for done in after]
        finals = [done[-1] if done else state for done, state in zip(after, states)]
        return self.whole("output", outputs), finals


@dataclass
class Answer:
    """Outputs of each sequence (steps, D * P), final states, and the tables afterwards."""

    outputs: list[list[Tensor]]
    states: tuple[Tensor, ...]
    tables: dict[str, Table]


def layers(
    cell: str,
    scheme: Any,
    parameters: Mapping[str, Tensor],
    sequences: list[list[Tensor]],
    states: Sequence[Tensor],
    *,
    hidden: int,
    num_layers: int = 1,
    directions: int = 1,
    training: bool = False,
    zoneout: Sequence[float] = (),
    nonlinearity: str = "tanh",
    heads: int = 1,
    resets: list[list[bool]] | None = None,
    first: Sequence[int] | None = None,
    own: Sequence[Tensor] = (),
) -> Answer:
    """Compute a recurrent network over sequences of different lengths.

    Args:
        scheme: an object with the fields of a NormScheme, or None for torch's plain cell.
        parameters: by the names of a state dict, including tables.
        sequences: B lists of vectors (I,).
        states: all tensors of the state, h_0 first, each (L * D, B, P or H).
        zoneout: probabilities for the first parts of the state; the others are not held back.
        nonlinearity, heads: options of the cells that have them.
        resets: for each step of each sequence, true if it begins anew there.
        first: the number of the first step of each sequence.
        own: the state with which sequences begin anew, each (L * D, P or H); zeros if empty.
    """
    resets = resets or [[False] * len(sequence) for sequence in sequences]
    first = first or [0] * len(sequences)
    own = own or [torch.zeros_like(state[:, 0]) for state in states]
    tables = {
        name[: -len("count")]: Table.of(parameters, name[: -len("count")])
        for name in parameters
        if name.endswith(".table.count")
    }
    finals: list[list[tuple[Tensor, ...]]] = []
    for layer in range(num_layers):
        collected: list[list[list[Tensor]]] = []
        for direction in range(directions):
            given = [
                tuple(state[layer * directions + direction, b] for state in states)
                for b in range(len(sequences))
            ]
            begin = tuple(state[layer * directions + direction] for state in own)
            unit = Direction(
                cell,
                scheme,
                hidden,
                parameters,
                tables,
                f"l{layer}" + ("_reverse" if direction else ""),
                training,
                zoneout,
                nonlinearity,
                heads,
            )
            turned = [list(reversed(s)) if direction else s for s in sequences]
            # Between the same two steps, and never before the last one.
            anew = [
                ([False, *flags[:0:-1]])[: len(flags)] if direction else flags for flags in resets
            ]
            outputs, last = unit.run(turned, given, anew, first, begin)
            collected.append([list(reversed(o)) if direction else o for o in outputs])
            finals.append(last)
        sequences = [
            [torch.cat(parts) for parts in zip(*(outputs[b] for outputs in collected))]
            for b in range(len(sequences))
        ]
    stacked = tuple(
        torch.stack([torch.stack([last[b][s] for b in range(len(sequences))]) for last in finals])
        for s in range(len(states))
    )
    return Answer(sequences, stacked, tables)
