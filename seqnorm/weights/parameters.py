"""The parameters and running statistics of one layer in one direction, by short names.

Learned initial states are among them, "h_0" and "c_0" (H,), although they are one tensor of all
directions.

Axes: S time steps, F features of a norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

import torch
from torch import Tensor, nn

from ..nn.layers.cell import RecurrentCell
from ..nn.layers.layer import RecurrentLayer
from ..nn.statistics.running_table import ADOPTED, RunningTable

Recurrent = Union[RecurrentLayer, RecurrentCell]

# Norms whose units belong to gates, and their sites in a scheme.
_SITES = {"norm_ih": "input", "norm_hh": "hidden", "norm_sum": "sum", "norm_candidate": "candidate"}
STATISTICS = ("running_mean", "running_var")


def is_statistic(name: str) -> bool:
    """Return whether a short name is that of a running statistic."""
    return name.endswith(STATISTICS)


class Parameters:
    """The tensors of one direction: "weight_ih", "norm_ih.weight", "norm_ih.running_mean", ...

    Attributes:
        values: the tensors; running statistics are those of the step that was chosen last.
        spans: for each name the gates of its rows, in our order; "" for units without gates.
        tables: the running tables by the name of their norm.
        heads: number of heads of the cell.
    """

    def __init__(self, module: Recurrent, suffix: str, number: int = 0) -> None:
        """Gather the tensors with a suffix, and the states with the number of the direction."""
        step, scheme = module.step, module.norm
        self.heads = step.heads
        self.values: dict[str, Tensor] = {}
        self.tables: dict[str, RunningTable] = {}
        known = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", *step.own}
        for name, parameter in module.named_parameters():
            short = _short(name, suffix)
            if "." in short or short in known:
                self.values[short] = parameter.detach()
        states = [f"{letter}_0" for letter in step.learned if module.learn_initial_state]
        for name in states:
            learned = getattr(module, name).detach()
            self.values[name] = learned[number] if isinstance(module, RecurrentLayer) else learned
        for name, child in module.named_modules():
            if isinstance(child, RunningTable) and (short := _short(name, suffix)):
                self.tables[short.partition(".")[0]] = child
        self.choose(0)
        sites = {} if scheme is None else step.spans(scheme)
        self.spans: dict[str, str] = {}
        for name in self.values:
            norm, dot, _ = name.partition(".")
            of_gates = "" if name in ("weight_hr", *states) else step.gates
            self.spans[name] = sites.get(_SITES.get(norm, ""), "") if dot else of_gates

    def choose(self, step: int) -> None:
        """Let ``values`` have the statistics with which the tables answer for a step."""
        for name, table in self.tables.items():
            own = torch.arange(table.max_steps, device=table.count.device)
            row = torch.where(table.count > 0, own, 0).cummax(0).values[step]
            for kind in STATISTICS:
                self.values[f"{name}.{kind}"] = getattr(table, kind)[row]

    @property
    def steps(self) -> int:
        """Number of steps up to the last that has statistics of its own, at least 1."""
        seen = [table.count.nonzero().flatten().tolist() for table in self.tables.values()]
        return max([1, *(int(steps[-1]) + 1 for steps in seen if steps)])

    def merge(self, gates: str) -> None:
        """Add bias_hh to bias_ih in ``values`` for some gates, and set it to 0 there."""
        if gates and "bias_hh" in self.values and bool(self.values["bias_hh"].any()):
            span = self.spans["bias_hh"]
            rows = {gate: self.rows("bias_hh", gate) for gate in span}
            zeros = torch.zeros_like(rows[gates[0]])
            moved = torch.cat([rows[gate] if gate in gates else zeros for gate in span])
            self.values["bias_ih"] = self.values["bias_ih"] + moved
            stays = [zeros if gate in gates else rows[gate] for gate in span]
            self.values["bias_hh"] = torch.cat(stays)

    def rows(self, name: str, gate: str) -> Tensor:
        """Return the rows of one gate, or all of them for units without gates."""
        value, span = self.values[name], self.spans[name]
        return value.chunk(len(span))[span.index(gate)] if gate else value

    def shape(self, name: str, gates: str) -> tuple[int, ...]:
        """Return the shape of the rows of some gates, or of all rows of units without gates."""
        value, span = self.values[name], self.spans[name]
        return (len(value) * len(gates) // len(span) if gates else len(value), *value.shape[1:])


class Values:
    """Values for the parameters and statistics of a direction, gathered gate by gate."""

    def __init__(self, own: Parameters) -> None:
        self._own = own
        self._found: dict[tuple[str, int], dict[str, Tensor]] = {}

    def add(self, name: str, gate: str, rows: Tensor, step: int = 0) -> None:
        """Add the rows of one gate; for a running statistic, those of one time step."""
        self._found.setdefault((name, step), {})[gate] = rows

    def lacks(self) -> list[str]:
        """Return the weights and gains of which nothing, or not every gate, was added."""
        found = []
        for name, span in self._own.spans.items():
            added = self._found.get((name, 0), {}).keys()
            # The original may lack biases, which are 0 there, and statistics, which are forgotten.
            needed = not name.startswith("bias_") and not is_statistic(name)
            if needed and added != set(span or [""]):
                found.append(name)
        return found

    def _whole(self, name: str, step: int = 0) -> Tensor:
        by_gate, span = self._found.get((name, step), {}), self._own.spans[name]
        if not span:
            return by_gate[""].to(self._own.values[name])
        # A bias for which the original has no place is 0 there.
        zeros = torch.zeros_like(self._own.rows(name, span[0]))
        return torch.cat([by_gate.get(gate, zeros).to(zeros) for gate in span])

    def parameters(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the name, the present and the new value of each parameter."""
        for name, value in self._own.values.items():
            if not is_statistic(name):
                yield name, value, self._whole(name)

    def statistics(self) -> Iterator[tuple[str, RunningTable, Tensor, Tensor, Tensor]]:
        """Yield the name of a norm, its table, means and variances (S, F), and counts (S,).

        A step whose mean is 0 and whose variance is 1 throughout holds initial values, and so its
        count is 0. Every other step has a count of a million, so that the momentum decides. S is 0
        if the original keeps no statistics.
        """
        for norm, table in self._own.tables.items():
            steps = range(sum(name == f"{norm}.running_mean" for name, _ in self._found))
            mean, var = (
                torch.stack([self._whole(f"{norm}.{kind}", step) for step in steps])
                if steps
                else table.running_mean[:0]
                for kind in STATISTICS
            )
            initial = (mean == 0).all(1) & (var == 1).all(1)
            yield norm, table, mean, var, torch.where(initial, 0, ADOPTED)


def directions_of(module: Recurrent) -> list[Parameters]:
    """Return the directions in the order of the states: layer 0, layer 0 reversed, layer 1, ..."""
    suffixes = [""]
    if isinstance(module, RecurrentLayer):
        suffixes = [suffix for layer in module.suffixes for suffix in layer]
    return [Parameters(module, suffix, number) for number, suffix in enumerate(suffixes)]


def is_parametrised(module: nn.Module) -> bool:
    """Return whether a parameter is computed from others, so that a copy into it would be lost."""
    return any("parametrizations." in name for name, _ in module.named_parameters())


def _short(name: str, suffix: str) -> str:
    """Return a name without the suffix of its direction, or "" for another direction's."""
    first, dot, rest = name.partition(".")
    return f"{first[: len(first) - len(suffix)]}{dot}{rest}" if first.endswith(suffix) else ""
