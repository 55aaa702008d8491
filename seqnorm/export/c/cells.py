"""The equations of each cell in C, from the finished terms to the new state.

In C, ``of_x`` and ``of_h`` hold the finished terms N(W_ih x_t) + b and N(W_hh h_(t-1)) + b', and
each part of the state is an array named by its letter. ``h_new`` is h before a projection.

Axes: H = hidden_size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...nn.layers.cells.gru import GRUStep
from ...nn.layers.cells.indrnn import IndRNNStep
from ...nn.layers.cells.ligru import LiGRUStep
from ...nn.layers.cells.lstm import LSTMStep
from ...nn.layers.cells.rnn import RNNStep
from ...nn.layers.cells.slstm import SLSTMStep
from ...nn.recurrence.step import Nonlinear, Step

if TYPE_CHECKING:
    from .direction import Code


def _sum(code: Code) -> None:
    """Let of_x be N_sum(of_x + of_h)."""
    code.line(f"seqnorm_add(of_x, of_h, {code.rows});")
    code.norm("sum", "of_x", code.rows)


def _activate(code: Code) -> None:
    """Apply f to the first H units of of_x."""
    assert isinstance(code.part.step, Nonlinear)
    code.line(f"seqnorm_{code.part.step.nonlinearity}s(of_x, {code.H});")


def _rnn(code: Code) -> None:
    _sum(code)
    _activate(code)
    code.copy("h_new", "of_x", code.H)


def _ligru(code: Code) -> None:
    H = code.H
    _sum(code)
    _activate(code)
    code.line(f"seqnorm_sigmoids(of_x + {H}, {H});")
    code.line(f"seqnorm_mix(of_x + {H}, of_x, h_new, 0, {H});")


def _gru(code: Code) -> None:
    H, scheme = code.H, code.part.direction.scheme
    if scheme is not None and scheme.sum is not None and "candidate" not in code.spans:
        _sum(code)  # the reset gate multiplies the whole normalised candidate
        code.line(f"seqnorm_sigmoids(of_x, {2 * H});")
        code.line(f"seqnorm_times(of_x + {2 * H}, of_x, {H});")
    else:
        code.line(f"seqnorm_add(of_x, of_h, {2 * H});")
        code.norm("sum", "of_x", 2 * H)
        code.line(f"seqnorm_sigmoids(of_x, {2 * H});")
        code.line(f"seqnorm_reset(of_x + {2 * H}, of_x, of_h + {2 * H}, {H});")
        code.norm("candidate", f"of_x + {2 * H}", H)
    write = int(scheme is not None and scheme.update == "write")
    code.line(f"seqnorm_tanhs(of_x + {2 * H}, {H});")
    code.line(f"seqnorm_mix(of_x + {H}, of_x + {2 * H}, h_new, {write}, {H});")


def _lstm(code: Code) -> None:
    H, scheme = code.H, code.part.direction.scheme
    _sum(code)
    code.line(f"seqnorm_sigmoids(of_x, {2 * H});")
    code.line(f"seqnorm_tanhs(of_x + {2 * H}, {H});")
    code.line(f"seqnorm_sigmoids(of_x + {3 * H}, {H});")
    code.line(f"seqnorm_lstm(of_x, of_x + {H}, of_x + {2 * H}, c, {H});")
    code.copy("h_new", "c", H)
    code.norm("cell", "h_new", H)
    if scheme is not None and scheme.cell_state == "normalised":
        code.copy("c", "h_new", H)
    code.line(f"seqnorm_tanhs(h_new, {H});")
    code.line(f"seqnorm_times(h_new, of_x + {3 * H}, {H});")


def _slstm(code: Code) -> None:
    _sum(code)
    code.line(f"seqnorm_slstm(of_x, h_new, c, n, m, {code.H});")


CELLS: dict[type[Step], Callable[[Code], None]] = {
    LSTMStep: _lstm,
    GRUStep: _gru,
    RNNStep: _rnn,
    LiGRUStep: _ligru,
    IndRNNStep: _rnn,
    SLSTMStep: _slstm,
}
