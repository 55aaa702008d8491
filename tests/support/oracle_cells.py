"""Float64 equations of every cell: one step, one row at a time, as the layers' docstrings say.

This module does not import seqnorm. Each function takes the terms of input and state and the old
states of the rows that have this step, and returns their new states. ``unit.norm(site, rows)`` is
the norm at a site of the cell, or the identity without a norm.

Axes: H = hidden size, P = units of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h", "IndRNN": "h", "LiGRU": "az", "SLSTM": "ifzo"}
NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}
Rows = list[Tensor]
State = tuple[Tensor, ...]


def hidden_product(cell: str, weight: Tensor, h: Tensor, heads: int) -> Tensor:
    """Return W_hh h: an IndRNN's unit reads itself; with heads, a unit reads those of its head."""
    if cell == "IndRNN":
        return torch.stack([u * unit for u, unit in zip(weight, h)])
    if heads <= 1:
        return weight @ h
    size = len(h) // heads
    numbers = []
    for r, row in enumerate(weight):
        head = (r % len(h)) // size
        numbers.append(sum(row[j] * h[head * size + j] for j in range(size)))
    return torch.stack(numbers)


def lstm(unit: Any, xs: Rows, hs: Rows, old: list[State]) -> list[State]:
    H = unit.hidden
    rows = unit.norm("sum", [x + h for x, h in zip(xs, hs)])
    raw, opened = [], []
    for a, (_, c) in zip(rows, old):
        i, f, g, o = (a[j * H : (j + 1) * H] for j in range(4))
        raw.append(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        opened.append(torch.sigmoid(o))
    shown = unit.norm("cell", raw)
    fed_back = unit.scheme is not None and unit.scheme.cell_state == "normalised"
    w_hr = unit.get(f"weight_hr_{unit.suffix}")
    new = []
    for c, seen, o in zip(raw, shown, opened):
        h = o * torch.tanh(seen)
        new.append((h if w_hr is None else w_hr @ h, seen if fed_back else c))
    return new


def gru(unit: Any, xs: Rows, hs: Rows, old: list[State]) -> list[State]:
    H = unit.hidden
    if unit.one_sum:
        rows = unit.norm("sum", [x + h for x, h in zip(xs, hs)])
        zs = [torch.sigmoid(a[H : 2 * H]) for a in rows]
        candidates = [torch.sigmoid(a[:H]) * a[2 * H :] for a in rows]
    else:
        rows = unit.norm("sum", [x[: 2 * H] + h[: 2 * H] for x, h in zip(xs, hs)])
        zs = [torch.sigmoid(a[H:]) for a in rows]
        candidates = [
            x[2 * H :] + torch.sigmoid(a[:H]) * h[2 * H :] for a, x, h in zip(rows, xs, hs)
        ]
        candidates = unit.norm("candidate", candidates)
    writes = unit.scheme is not None and unit.scheme.update == "write"
    new = []
    for z, candidate, (h,) in zip(zs, candidates, old):
        n = torch.tanh(candidate)
        new.append((z * n + (1 - z) * h if writes else z * h + (1 - z) * n,))
    return new


def rnn(unit: Any, xs: Rows, hs: Rows, old: list[State]) -> list[State]:
    """Compute a step of an RNN or an IndRNN, which differ only in W_hh h."""
    f = NONLINEARITIES[unit.nonlinearity]
    return [(f(a),) for a in unit.norm("sum", [x + h for x, h in zip(xs, hs)])]


def ligru(unit: Any, xs: Rows, hs: Rows, old: list[State]) -> list[State]:
    f, H = NONLINEARITIES[unit.nonlinearity], unit.hidden
    rows = unit.norm("sum", [x + h for x, h in zip(xs, hs)])
    new = []
    for row, (h,) in zip(rows, old):
        a, z = row[:H], torch.sigmoid(row[H:])
        new.append((z * h + (1 - z) * f(a),))
    return new


def slstm(unit: Any, xs: Rows, hs: Rows, old: list[State]) -> list[State]:
    H = unit.hidden
    rows = unit.norm("sum", [x + h for x, h in zip(xs, hs)])
    new = []
    for a, (_, c, n, m) in zip(rows, old):
        i, f, z, o = (a[j * H : (j + 1) * H] for j in range(4))
        kept = torch.log(torch.sigmoid(f)) + m
        m = torch.stack([i[j] if n[j] == 0 or i[j] > kept[j] else kept[j] for j in range(H)])
        one = torch.ones(()).double()
        k = torch.stack([torch.exp(kept[j] - m[j]) if kept[j] < m[j] else one for j in range(H)])
        c = k * c + torch.exp(i - m) * torch.tanh(z)
        n = k * n + torch.exp(i - m)
        new.append((torch.sigmoid(o) * c / n, c, n, m))
    return new


STEPS: dict[str, Callable[[Any, Rows, Rows, list[State]], list[State]]] = {
    "LSTM": lstm,
    "GRU": gru,
    "RNN": rnn,
    "IndRNN": rnn,
    "LiGRU": ligru,
    "SLSTM": slstm,
}
