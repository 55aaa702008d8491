"""One step of an LSTM and of a GRU, as pure mathematics: no parameters, no time, no batch.

The two terms x = N_input(W_ih x_t) + b and h = N_hidden(W_hh h_(t-1)) + b' arrive apart, for a GRU
needs them apart; ``norm(site, z)`` is the only way a cell meets the norms of its other sites.

Axes: n rows, H = hidden_size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .scheme import NormScheme

Normalise = Callable[[str, Tensor], Tensor]


class Cell:
    """What a time loop needs to know of a recurrent cell.

    Attributes:
        name: the name of its public layer.
        gates: a letter for each gate, in the order in which W_ih and W_hh stack them.
        states: a letter for each part of the state; the first is the output.
    """

    name: str
    gates: str
    states: str

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        """Which gates each norm of the scheme spans, by site ("" is the cell state)."""
        raise NotImplementedError

    def step(
        self,
        x: Tensor,
        h: Tensor,
        state: tuple[Tensor, ...],
        norm: Normalise,
        scheme: NormScheme | None,
    ) -> tuple[Tensor, ...]:
        """The state after this step.

        Args:
            x, h: (n, G * H) the terms of input and state.
            state: parts of shape (n, H).
        """
        raise NotImplementedError


class LSTM(Cell):
    """i, f, g, o; c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(N(c))."""

    name = "LSTM"
    gates = "ifgo"
    states = "hc"

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        return {site: "" if site == "cell" else self.gates for site in scheme.norms}

    def step(
        self,
        x: Tensor,
        h: Tensor,
        state: tuple[Tensor, ...],
        norm: Normalise,
        scheme: NormScheme | None,
    ) -> tuple[Tensor, ...]:
        _, c = state
        i, f, g, o = norm("sum", x + h).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        normalised = norm("cell", c)
        feeds_back = scheme is not None and scheme.cell_state == "normalised"
        return o.sigmoid() * normalised.tanh(), normalised if feeds_back else c


class GRU(Cell):
    """r, z, n; n = tanh(x_n + sigmoid(r) h_n); h = z h + (1 - z) n, and what a norm of the sum
    makes of it (see ``NormScheme``)."""

    name = "GRU"
    gates = "rzn"
    states = "h"

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        if scheme.sum is None or scheme.sum.over_batch or scheme.sum.sets == "joint":
            return dict.fromkeys(scheme.norms, self.gates)
        # The candidate's sum contains the reset gate, so r and z are normalised before it.
        return {"sum": "rz", "candidate": "n"}

    def step(
        self,
        x: Tensor,
        h: Tensor,
        state: tuple[Tensor, ...],
        norm: Normalise,
        scheme: NormScheme | None,
    ) -> tuple[Tensor, ...]:
        (before,) = state
        size = before.shape[-1]
        if scheme is None or scheme.sum is None:
            x_rz, x_n = x.split([2 * size, size], -1)
            h_rz, h_n = h.split([2 * size, size], -1)
            r, z = (x_rz + h_rz).sigmoid().chunk(2, -1)
            n = (x_n + r * h_n).tanh()
        elif "candidate" not in self.spans(scheme):
            r, z, n = norm("sum", x + h).chunk(3, -1)
            r, z, n = r.sigmoid(), z.sigmoid(), (r.sigmoid() * n).tanh()
        else:
            x_rz, x_n = x.split([2 * size, size], -1)
            h_rz, h_n = h.split([2 * size, size], -1)
            r, z = norm("sum", x_rz + h_rz).sigmoid().chunk(2, -1)
            n = norm("candidate", x_n + r * h_n).tanh()
        keep, write = (before, n) if scheme is None or scheme.update == "keep" else (n, before)
        return (z * keep + (1.0 - z) * write,)


CELLS: dict[str, Cell] = {cell.name: cell for cell in (LSTM(), GRU())}
