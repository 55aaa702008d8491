"""The presets of BatchNorm compared with the cells as their authors wrote them.

As in test_published.py, no function here reads a scheme. The rows of a step, or all frames of all
sequences, are normalised together.

Axes: T steps, B sequences, F features, I = input size, H = hidden size.
"""

from __future__ import annotations

import pytest
import torch
from publications import EPS, B, H, I, Parts, T, compare_with, layer_and_parts, run_layer
from torch import Tensor, sigmoid, tanh


class BN:
    """Eq. 6 of Cooijmans et al. 2017 at one site: statistics of the rows of one step.

    ``seen`` collects the estimates that inference averages; ``fixed`` replaces the statistics.
    """

    def __init__(self, fixed: list[tuple[Tensor, Tensor]] | None) -> None:
        self.fixed = fixed
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, rows: Tensor, gain: Tensor, bias: Tensor | float) -> Tensor:
        if self.fixed is None:
            mean = sum(rows) / len(rows)
            var = sum((rows - mean) ** 2) / len(rows)
        else:
            # Past the longest training sequence: the statistics of its last step.
            mean, var = self.fixed[min(len(self.seen), len(self.fixed) - 1)]
        self.seen.append((mean.detach(), var.detach()))
        return bias + gain * (rows - mean) / torch.sqrt(var + EPS)


def cooijmans(
    p: Parts, x: Tensor, states: list[Tensor], sites: dict[str, BN], beta: bool
) -> tuple[Tensor, ...]:
    """Eq. 6-8, gates stacked f, i, o, g; jihunchoi's bnlstm.py has a bias in every norm."""
    h, c = states
    outputs = []
    for x_t in x:
        hidden = sites["hh"](
            h @ p.U("fiog").T, p.gain("hh", "fiog"), p.beta("hh", "fiog") if beta else 0.0
        )
        given = sites["ih"](
            x_t @ p.W("fiog").T, p.gain("ih", "fiog"), p.beta("ih", "fiog") if beta else 0.0
        )
        f, i, o, g = (hidden + given + p.b("fiog")).split(H, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(sites["cell"](c, *p.cell_norm))
        outputs.append(h)
    return torch.stack(outputs), h, c


@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize(
    ("name", "beta"), [("cooijmans2016", False), ("batch", False), ("jihunchoi", True)]
)
def test_recurrent_batch_normalization(name: str, beta: bool, randomised: bool) -> None:
    """Training is followed by inference over more steps, with unbiased statistics of training."""
    layer, parts = layer_and_parts(name, "LSTM", randomised)
    x = torch.randn(T + 2, B, I).double()
    states = [torch.randn(B, H).double() for _ in range(2)]
    sites = {site: BN(None) for site in ("ih", "hh", "cell")}
    wanted = cooijmans(parts, x[:T], states, sites, beta)
    compare_with(layer, wanted, run_layer(layer.train(), x[:T], states))
    fixed = {
        site: BN([(mean, var * (B / (B - 1))) for mean, var in bn.seen])
        for site, bn in sites.items()
    }
    wanted = cooijmans(parts, x, states, fixed, beta)
    compare_with(layer, wanted, run_layer(layer.eval(), x, states))


def pooled(rows: Tensor, gain: Tensor) -> Tensor:
    """Sequence-wise BatchNorm of (T, B, F): one mean and variance over all frames."""
    flat = rows.flatten(0, 1)
    mean = sum(flat) / len(flat)
    var = sum((flat - mean) ** 2) / len(flat)
    return gain * (rows - mean) / torch.sqrt(var + EPS)


@pytest.mark.parametrize("name", ["laurent2016", "batch_pooled"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_sequence_wise(name: str, cell: str) -> None:
    """Laurent et al. 2016: BN(W x) over all frames of all sequences, nothing within the loop."""
    layer, p = layer_and_parts(name, cell, True)
    x = torch.randn(T, B, I).double()
    states = [torch.randn(B, H).double() for _ in range(2 if cell == "LSTM" else 1)]
    gates = p.order
    terms = pooled(x @ p.W(gates).T, p.gain("ih", gates)) + p.b(gates)
    outputs = []
    h = states[0]
    c = states[-1]
    for term in terms:
        if cell == "LSTM":
            i, f, g, o = (term + h @ p.U(gates).T).split(H, 1)
            c = sigmoid(f) * c + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
        elif cell == "RNN":
            h = tanh(term + h @ p.U(gates).T)
        else:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = (
                term.split(H, 1),
                (h @ p.U(gates).T + p.b_hh(gates)).split(H, 1),
            )
            z = sigmoid(x_z + h_z)
            h = z * h + (1 - z) * tanh(x_n + sigmoid(x_r + h_r) * h_n)
        outputs.append(h)
    wanted = (torch.stack(outputs), h, c) if cell == "LSTM" else (torch.stack(outputs), h)
    compare_with(layer, wanted, run_layer(layer.train(), x, states))


def test_cooijmans_sequence_wise() -> None:
    """BN-e*: sequence-wise for W x, of every step for W h and c."""
    layer, p = layer_and_parts("cooijmans2016_sequencewise", "LSTM", True)
    x = torch.randn(T, B, I).double()
    states = [torch.randn(B, H).double() for _ in range(2)]
    terms = pooled(x @ p.W("fiog").T, p.gain("ih", "fiog"))
    h, c = states
    outputs = []
    for term in terms:
        hidden = BN(None)(h @ p.U("fiog").T, p.gain("hh", "fiog"), 0.0)
        f, i, o, g = (hidden + term + p.b("fiog")).split(H, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(BN(None)(c, *p.cell_norm))
        outputs.append(h)
    compare_with(layer, (torch.stack(outputs), h, c), run_layer(layer.train(), x, states))
