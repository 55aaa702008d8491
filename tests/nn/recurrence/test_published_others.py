"""The presets of RNN, IndRNN, LiGRU and SLSTM compared with the cells as their authors wrote them.

As in test_published.py, no function here reads a scheme. BatchNorm is in test_published_frames.py.

Axes: T steps, B sequences, I = input size, H = hidden size, P = units of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from publications import (
    EPS,
    B,
    H,
    I,
    N,
    Parts,
    State,
    T,
    compare_with,
    layer_and_parts,
    row_by_row,
    run_layer,
)
from torch import Tensor, relu, sigmoid, tanh

Step = Callable[[Parts, Tensor, State], State]


def ba2016_rnn(f: Callable[[Tensor], Tensor]) -> Step:
    """Eq. 4: h_t = f(g / sigma_t * (a_t - mu_t) + b), a_t = W_hh h_(t-1) + W_xh x_t."""

    def step(p: Parts, x: Tensor, state: State) -> State:
        (h,) = state
        a = p.U("h") @ h + p.W("h") @ x
        mu = a.sum() / H
        sigma = torch.sqrt(((a - mu) ** 2).sum() / H + EPS)
        return (f(p.gain("sum", "h") / sigma * (a - mu) + p.beta("sum", "h")),)

    return step


def tfa_simple_rnn(p: Parts, x: Tensor, state: State) -> State:
    """layer_norm_simple_rnn_cell.py: net scaled but not centred; the bias is that of SimpleRNN."""
    (prev_output,) = state
    output = N(p.W("h") @ x + p.U("h") @ prev_output, p.gain("sum", "h"))
    return (tanh(output + p.beta("sum", "h")),)


def haste_indrnn(p: Parts, x: Tensor, state: State) -> State:
    """layer_norm_indrnn.py: kernel, recurrent_scale, gamma, bias."""
    (h,) = state
    kernel, recurrent_scale = p.W("h").T, p.U("h")
    return (tanh(N(x @ kernel, p.gain("ih", "h")) + p.b("h") + recurrent_scale * h),)


def li2018(f: Callable[[Tensor], Tensor]) -> Step:
    """Li et al. 2018, eq. 2: h_t = f(W x_t + u (Hadamard) h_(t-1) + b)."""

    def step(p: Parts, x: Tensor, state: State) -> State:
        (h,) = state
        return (f(p.W("h") @ x + torch.diag(p.U("h")) @ h + p.b("h")),)

    return step


def speechbrain_ligru(f: Callable[[Tensor], Tensor], normalised: bool) -> Step:
    """LiGRU_Layer._ligru_cell with normalization="layernorm", or with none."""

    def step(p: Parts, x: Tensor, state: State) -> State:
        (ht,) = state
        w = p.W("az") @ x
        w = N(w, p.gain("ih", "az"), p.beta("ih", "az")) if normalised else w + p.b("az")
        gates = w + p.U("az") @ ht
        at, zt = gates.chunk(2)
        zt = sigmoid(zt)
        hcand = f(at)
        return (zt * ht + (1 - zt) * hcand,)

    return step


OF_ONE_ROW: list[tuple[str | None, str, dict[str, Any], Step]] = [
    ("ba2016", "RNN", {}, ba2016_rnn(tanh)),
    ("layer", "RNN", {"nonlinearity": "tanh"}, ba2016_rnn(tanh)),
    ("ba2016", "RNN", {"nonlinearity": "relu"}, ba2016_rnn(relu)),
    ("tfa", "RNN", {}, tfa_simple_rnn),
    ("haste", "IndRNN", {}, haste_indrnn),
    ("layer", "IndRNN", {}, haste_indrnn),
    (None, "IndRNN", {}, li2018(tanh)),
    (None, "IndRNN", {"nonlinearity": "relu"}, li2018(relu)),
    ("layer", "LiGRU", {}, speechbrain_ligru(relu, True)),
    ("layer", "LiGRU", {"nonlinearity": "tanh"}, speechbrain_ligru(tanh, True)),
    (None, "LiGRU", {}, speechbrain_ligru(relu, False)),
]


@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize(("name", "cell", "options", "step"), OF_ONE_ROW)
def test_as_published(
    name: str | None, cell: str, options: dict[str, Any], step: Step, randomised: bool
) -> None:
    layer, parts = layer_and_parts(name, cell, randomised, **options)
    x = torch.randn(T, B, I).double()
    states = [torch.randn(B, H).double()]
    compare_with(layer, row_by_row(step, parts, x, states), run_layer(layer, x, states))


HEADS, WIDE = 2, 8


def slstm_forward(p: Parts, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """NX-AI/xlstm, src/vanilla: slstm_forward and slstm_forward_pointwise.

    ``states`` is (4, B, H): y, c, n, m; the recurrent kernel R (num_heads, 4 P, P) holds i, f, z, o
    of each head.
    """
    P = WIDE // HEADS
    R = torch.stack(
        [
            torch.cat([p.U(gate)[head * P : (head + 1) * P] for gate in "ifzo"])
            for head in range(HEADS)
        ]
    )
    batch_dim = x.shape[1]
    outputs = []
    for x_t in x:
        Wx = x_t @ p.W("ifzo").T
        Ry = (
            states[0]
            .reshape(batch_dim, HEADS, 1, -1)
            .matmul(R.transpose(1, 2).reshape(1, HEADS, P, 4 * P))
            .reshape(batch_dim, HEADS, 4, -1)
            .transpose(1, 2)
            .reshape(batch_dim, -1)
        )
        raw = Wx + Ry + p.b("ifzo")
        _, c, n, m = torch.unbind(states, dim=0)
        iraw, fraw, zraw, oraw = torch.unbind(raw.view(batch_dim, 4, -1), dim=1)
        logfplusm = m + F.logsigmoid(fraw)
        mnew = iraw if torch.all(n == 0.0) else torch.max(iraw, logfplusm)
        ogate = sigmoid(oraw)
        igate = torch.minimum(torch.exp(iraw - mnew), torch.ones_like(iraw))
        fgate = torch.minimum(torch.exp(logfplusm - mnew), torch.ones_like(iraw))
        cnew = fgate * c + igate * tanh(zraw)
        nnew = fgate * n + igate
        ynew = ogate * cnew / nnew
        states = torch.stack((ynew, cnew, nnew, mnew), dim=0)
        outputs.append(ynew)
    return torch.stack(outputs), states


def multi_head_layer_norm(y: Tensor, weight: Tensor) -> Tensor:
    """components/ln.py: GroupNorm with one group a head, weight 1 + w, no bias, eps 1e-5."""
    flat = y.flatten(0, 1)
    return F.group_norm(flat, HEADS, weight=1.0 + weight, bias=None, eps=1e-5).view_as(y)


@pytest.mark.parametrize("start", ["zeros", "states"])
@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize("name", ["xlstm", "layer", None])
def test_slstm(name: str | None, randomised: bool, start: str) -> None:
    layer, parts = layer_and_parts(name, "SLSTM", randomised, WIDE, num_heads=HEADS)
    x = torch.randn(T, B, I).double()
    states = torch.zeros(4, B, WIDE).double()
    if start == "states":
        states = torch.randn(4, B, WIDE).double()
        states[2] = states[2].abs() + 0.5
    y, last = slstm_forward(parts, x, states)
    if name is not None:
        assert parts.values.keys() - {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"} == {
            "norm_output_l0.weight"
        }
        y = multi_head_layer_norm(y, parts.values["norm_output_l0.weight"] - 1.0)
    compare_with(layer, (y, *last), run_layer(layer, x, list(states)))
