"""Float64 definitions of the normalised LSTM and GRU: one row, one step, one set at a time.

Nothing here imports seqnorm. A batch is a list of sequences, each of its own length, so there is
no padding and no mask: the rows of step k are the rows of the sequences that have a step k.
Everything is differentiable, for gradients to be compared as well.

Axes: T steps, B sequences, I = input size, H = hidden size, P = size of h (H, or proj_size).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GATES = {"LSTM": "ifgo", "GRU": "rzn"}


@dataclass
class Table:
    """Running statistics: for each step a mean (F,), a variance (F,) and the rows seen."""

    mean: list[Tensor]
    var: list[Tensor]
    count: list[int]

    @classmethod
    def initial(cls, steps: int, features: int) -> Table:
        zero, one = torch.zeros(features).double(), torch.ones(features).double()
        return cls([zero] * steps, [one] * steps, [0] * steps)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], prefix: str) -> Table:
        return cls(
            list(state[prefix + "running_mean"].detach().double().clone()),
            list(state[prefix + "running_var"].detach().double().clone()),
            [int(count) for count in state[prefix + "count"]],
        )

    def stand_in(self, step: int, beyond: str, training: bool) -> tuple[Tensor, Tensor]:
        """What is taken in the batch's place: the step's own row, or that of the last seen before.

        Refusing, training tolerates a step that is not seen yet, but not one beyond the table.
        """
        own = step < len(self.count) and (training or self.count[step] > 0)
        if beyond == "error" and not own:
            raise IndexError(f"step {step} has no statistics of its own")
        for earlier in range(min(step, len(self.count) - 1), -1, -1):
            if self.count[earlier] > 0:
                return self.mean[earlier], self.var[earlier]
        return torch.zeros_like(self.mean[0]), torch.ones_like(self.var[0])

    def update(self, step: int, rows: Sequence[Tensor], norm: Any) -> None:
        n = len(rows)
        rows = [row.detach() for row in rows]
        mean = sum(rows) / n
        var = sum((row - mean) ** 2 for row in rows) / (n - 1)
        self.count[step] += n
        weight = n / self.count[step]
        if norm.momentum is not None:
            weight = max(weight, norm.momentum)
        self.mean[step] = (1 - weight) * self.mean[step] + weight * mean
        self.var[step] = (1 - weight) * self.var[step] + weight * var


def scaled(value: Tensor, mean: Tensor, var: Tensor, norm: Any) -> Tensor:
    """(value - mean) over the standard deviation, eps inside or outside of the root."""
    if norm.eps_on == "var":
        return (value - mean) / (var + norm.eps) ** 0.5
    # A root has no derivative at 0; the fraction has one, 1 / eps, for its numerator is 0 as well.
    roots = [v**0.5 if v > 0 else torch.zeros_like(v) for v in var.reshape(-1)]
    return (value - mean) / (torch.stack(roots).reshape(var.shape) + norm.eps)


@dataclass
class Site:
    """One norm of one layer and direction."""

    norm: Any
    pieces: list[int]
    weight: Tensor | None
    bias: Tensor | None
    table: Table | None
    training: bool

    def within_row(self, row: Tensor) -> Tensor:
        parts, start = [], 0
        for size in self.pieces:
            part = row[start : start + size]
            start += size
            mean = part.sum() / size if self.norm.kind == "layer" else torch.zeros(()).double()
            var = ((part - mean) ** 2).sum() / size
            parts.append(scaled(part, mean, var, self.norm))
        assert start == len(row)
        return torch.cat(parts)

    def over_rows(self, step: int, rows: list[Tensor]) -> list[Tensor]:
        assert self.table is not None
        n = len(rows)
        # A step that the table does not have is read from it in training as it is in inference.
        if self.training and n >= self.norm.min_count and step < len(self.table.count):
            mean = sum(rows) / n
            var = sum((row - mean) ** 2 for row in rows) / n
            self.table.update(step, rows, self.norm)
        else:
            mean, var = self.table.stand_in(step, self.norm.beyond, self.training)
        return [scaled(row, mean, var, self.norm) for row in rows]

    def __call__(self, step: int, rows: list[Tensor]) -> list[Tensor]:
        """The norm of the rows that there are at this step."""
        if self.norm.kind in ("layer", "rms"):
            rows = [self.within_row(row) for row in rows]
        else:
            rows = self.over_rows(step, rows)
        if self.weight is not None:
            rows = [row * self.weight for row in rows]
        if self.bias is not None:
            rows = [row + self.bias for row in rows]
        return rows


def pieces(norm: Any, gates: str, span: str, hidden: int) -> list[int]:
    """Units of each set of a norm over the gates of ``span``; the cell state is one set."""
    if not span:
        return [hidden]
    if norm.sets == "joint":
        return [len(span) * hidden]
    division = list(gates) if norm.sets == "separate" else norm.sets
    return [len(part) * hidden for part in division if part in span]


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

    def get(self, name: str) -> Tensor | None:
        return self.parameters.get(name)

    def site(self, field_name: str, module: str, span: str) -> Site | None:
        norm = getattr(self.scheme, field_name) if self.scheme is not None else None
        if norm is None:
            return None
        name = f"{module}_{self.suffix}"
        return Site(
            norm,
            pieces(norm, GATES[self.cell], span, self.hidden),
            self.get(name + ".weight"),
            self.get(name + ".bias"),
            self.tables.get(name + ".table."),
            self.training,
        )

    def place(self, name: str) -> str | None:
        if self.scheme is None:
            return "outside"
        return getattr(self.scheme, name)

    def term(self, which: str, value: Tensor, at: str) -> Tensor:
        """Add the bias vector of a term where it stands before ("inside") or after the norm."""
        bias = self.get(f"bias_{which}_{self.suffix}")
        if bias is None or self.place(f"bias_{which}") not in (at, "both"):
            return value
        return value + bias

    def run(
        self, sequences: list[list[Tensor]], states: list[tuple[Tensor, ...]]
    ) -> tuple[list[list[Tensor]], list[tuple[Tensor, ...]]]:
        """Outputs of every sequence in the order of its steps, and the states at its end."""
        gates = GATES[self.cell]
        w_ih = self.parameters[f"weight_ih_{self.suffix}"]
        w_hh = self.parameters[f"weight_hh_{self.suffix}"]
        one_set = self.scheme is not None and self.scheme.sum is not None
        if one_set and self.cell == "GRU":
            one_set = self.scheme.sum.sets == "joint"
        n_in = self.site("input", "norm_ih", gates)
        n_hid = self.site("hidden", "norm_hh", gates)
        n_cell = self.site("cell", "norm_cell", "")
        n_cand = None
        if one_set or self.cell == "LSTM":
            n_sum = self.site("sum", "norm_sum", gates)
        else:
            n_sum = self.site("sum", "norm_sum", "rz")
            n_cand = self.site("sum", "norm_candidate", "n")

        x_terms = [
            [self.term("ih", w_ih @ frame, "inside") for frame in sequence]
            for sequence in sequences
        ]
        if n_in is not None and n_in.norm.kind == "batch_pooled":
            places = [(b, k) for b, terms in enumerate(x_terms) for k in range(len(terms))]
            if places:
                rows = n_in(0, [x_terms[b][k] for b, k in places])
                for (b, k), row in zip(places, rows):
                    x_terms[b][k] = row
        states = list(states)
        outputs: list[list[Tensor]] = [[] for _ in sequences]
        for k in range(max((len(sequence) for sequence in sequences), default=0)):
            alive = [b for b, sequence in enumerate(sequences) if k < len(sequence)]
            xs = [x_terms[b][k] for b in alive]
            hs = [self.term("hh", w_hh @ states[b][0], "inside") for b in alive]
            if n_in is not None and n_in.norm.kind != "batch_pooled":
                xs = n_in(k, xs)
            if n_hid is not None:
                hs = n_hid(k, hs)
            xs = [self.term("ih", x, "outside") for x in xs]
            hs = [self.term("hh", h, "outside") for h in hs]
            old = [states[b] for b in alive]
            if self.cell == "LSTM":
                new = self.lstm(k, xs, hs, old, n_sum, n_cell)
            else:
                new = self.gru(k, xs, hs, old, n_sum, n_cand)
            for b, was, now in zip(alive, old, new):
                states[b] = tuple(
                    p * before + (1 - p) * after for p, before, after in zip(self.zoneout, was, now)
                )
                outputs[b].append(states[b][0])
        return outputs, states

    def lstm(
        self,
        step: int,
        xs: list[Tensor],
        hs: list[Tensor],
        old: list[tuple[Tensor, ...]],
        n_sum: Site | None,
        n_cell: Site | None,
    ) -> list[tuple[Tensor, ...]]:
        H = self.hidden
        rows = [x + h for x, h in zip(xs, hs)]
        if n_sum is not None:
            rows = n_sum(step, rows)
        raw, opened = [], []
        for a, (_, c) in zip(rows, old):
            i, f, g, o = (a[j * H : (j + 1) * H] for j in range(4))
            raw.append(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
            opened.append(torch.sigmoid(o))
        shown = n_cell(step, raw) if n_cell is not None else raw
        fed_back = self.scheme is not None and self.scheme.cell_state == "normalised"
        w_hr = self.get(f"weight_hr_{self.suffix}")
        new = []
        for c, seen, o in zip(raw, shown, opened):
            h = o * torch.tanh(seen)
            new.append((h if w_hr is None else w_hr @ h, seen if fed_back else c))
        return new

    def gru(
        self,
        step: int,
        xs: list[Tensor],
        hs: list[Tensor],
        old: list[tuple[Tensor, ...]],
        n_sum: Site | None,
        n_cand: Site | None,
    ) -> list[tuple[Tensor, ...]]:
        H = self.hidden
        if n_sum is not None and n_cand is None:
            rows = n_sum(step, [x + h for x, h in zip(xs, hs)])
            zs = [torch.sigmoid(a[H : 2 * H]) for a in rows]
            candidates = [torch.sigmoid(a[:H]) * a[2 * H :] for a in rows]
        else:
            rows = [x[: 2 * H] + h[: 2 * H] for x, h in zip(xs, hs)]
            if n_sum is not None:
                rows = n_sum(step, rows)
            zs = [torch.sigmoid(a[H:]) for a in rows]
            candidates = [
                x[2 * H :] + torch.sigmoid(a[:H]) * h[2 * H :] for a, x, h in zip(rows, xs, hs)
            ]
            if n_cand is not None:
                candidates = n_cand(step, candidates)
        writes = self.scheme is not None and self.scheme.update == "write"
        new = []
        for z, candidate, (h,) in zip(zs, candidates, old):
            n = torch.tanh(candidate)
            new.append((z * n + (1 - z) * h if writes else z * h + (1 - z) * n,))
        return new


@dataclass
class Answer:
    """Outputs of each sequence (its own steps, D * P), final states, and the tables afterwards."""

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
    zoneout: Sequence[float] = (0.0, 0.0),
) -> Answer:
    """A recurrent network over sequences of different length.

    Args:
        scheme: an object with the fields of a NormScheme, or None for torch's plain cell.
        parameters: by the names of a state dict, tables included.
        sequences: B lists of vectors (I,).
        states: (h_0,) or (h_0, c_0), each (L * D, B, P or H).
    """
    tables = {
        name[: -len("count")]: Table.of(parameters, name[: -len("count")])
        for name in parameters
        if name.endswith(".table.count")
    }
    finals: list[list[tuple[Tensor, ...]]] = []
    for layer in range(num_layers):
        collected: list[list[list[Tensor]]] = []
        for direction in range(directions):
            first = [
                tuple(state[layer * directions + direction, b] for state in states)
                for b in range(len(sequences))
            ]
            unit = Direction(
                cell,
                scheme,
                hidden,
                parameters,
                tables,
                f"l{layer}" + ("_reverse" if direction else ""),
                training,
                zoneout,
            )
            turned = [list(reversed(s)) if direction else s for s in sequences]
            outputs, last = unit.run(turned, first)
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


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Of a list of numbers, the variance biased; (0, 0) of none."""
    if not values:
        return 0.0, 0.0
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)
