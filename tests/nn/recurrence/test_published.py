"""The presets of LSTM and GRU compared with the cells as their authors wrote them.

Those of the other cells are in test_published_others.py, those of BatchNorm in
test_published_batch.py and test_published_frames.py.

Each function below transcribes one publication with its own gate order, its own split of the
matrices and its own places for the biases; none of them reads a scheme. Where a publication and
torch use the same letters for different gates, the comment says so.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
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
from torch import Tensor, sigmoid, tanh

Step = Callable[[Parts, Tensor, State], State]


def ba2016_lstm(p: Parts, x: Tensor, state: State) -> State:
    """Eq. 20-22; gates stacked f, i, o, g."""
    h, c = state
    a2, b2 = p.gain("ih", "fiog"), p.beta("ih", "fiog")
    a1, b1 = p.gain("hh", "fiog"), p.beta("hh", "fiog")
    f, i, o, g = (N(p.U("fiog") @ h, a1, b1) + N(p.W("fiog") @ x, a2, b2) + p.b("fiog")).split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(N(c, *p.cell_norm)), c


def ba2016_draw(p: Parts, x: Tensor, state: State) -> State:
    """Eq. 29-31: only the cell is normalised."""
    h, c = state
    f, i, o, g = (p.U("fiog") @ h + p.W("fiog") @ x + p.b("fiog")).split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(N(c, *p.cell_norm)), c


def ba2016_candidate(p: Parts, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """z and the candidate of eq. 26-28; z and r share one set in either term."""
    gates = N(p.U("zr") @ h, p.gain("hh", "zr"), p.beta("hh", "zr"))
    gates = gates + N(p.W("zr") @ x, p.gain("ih", "zr"), p.beta("ih", "zr"))
    z, r = gates.split(H)
    new = N(p.W("n") @ x, p.gain("ih", "n"), p.beta("ih", "n"))
    old = N(p.U("n") @ h, p.gain("hh", "n"), p.beta("hh", "n"))
    return sigmoid(z), tanh(new + sigmoid(r) * old)


def ba2016_gru(p: Parts, x: Tensor, state: State) -> State:
    (h,) = state
    z, candidate = ba2016_candidate(p, x, h)
    return ((1 - z) * h + z * candidate,)


def layer_gru(p: Parts, x: Tensor, state: State) -> State:
    """Eq. 26-28 with z in the role that torch gives it."""
    (h,) = state
    z, candidate = ba2016_candidate(p, x, h)
    return (z * h + (1 - z) * candidate,)


def kiros_lstm(p: Parts, x: Tensor, state: State) -> State:
    """layers.py, lnlstm_layer: gates i, f, o, c; ``b`` enters within N(x) and once more outside."""
    h, c = state
    s1, b1 = p.gain("ih", "ifog"), p.beta("ih", "ifog")
    s2, b2 = p.gain("hh", "ifog"), p.beta("hh", "ifog")
    b = p.b("ifog")
    pre = N(p.U("ifog") @ h, s2, b2) + N(p.W("ifog") @ x + b, s1, b1) + b
    i, f, o, g = pre.split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(N(c, *p.cell_norm)), c


def kiros_gru(p: Parts, x: Tensor, state: State) -> State:
    """layers.py, lngru_layer: gates r, u; four norms."""
    (h,) = state
    x_gates = N(p.W("rz") @ x + p.b("rz"), p.gain("ih", "rz"), p.beta("ih", "rz"))
    x_new = N(p.W("n") @ x + p.b("n"), p.gain("ih", "n"), p.beta("ih", "n"))
    h_gates = N(p.U("rz") @ h, p.gain("hh", "rz"), p.beta("hh", "rz"))
    h_new = N(p.U("n") @ h, p.gain("hh", "n"), p.beta("hh", "n"))
    r, u = sigmoid(x_gates + h_gates).split(H)
    candidate = tanh(h_new * r + x_new)
    return (u * h + (1.0 - u) * candidate,)


def kiros_torch(p: Parts, x: Tensor, state: State) -> State:
    """torch_modules: plain gates, eps added to the standard deviation of the cell."""
    h, c = state
    both = p.W("ifog") @ x + p.b("ifog") + p.U("ifog") @ h + p.b_hh("ifog")
    i, f, o, g = both.split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    gain, bias = p.cell_norm
    centred = c - c.sum() / H
    std = torch.sqrt((centred**2).sum() / H)
    return sigmoid(o) * tanh(gain * centred / (std + EPS) + bias), c


def fastrnns(p: Parts, x: Tensor, state: State) -> State:
    """custom_lstms.py, LayerNormLSTMCell: cy is normalised and fed back (also NeMo's)."""
    hx, cx = state
    igates = N(p.W("ifgo") @ x, p.gain("ih", "ifgo"), p.beta("ih", "ifgo"))
    hgates = N(p.U("ifgo") @ hx, p.gain("hh", "ifgo"), p.beta("hh", "ifgo"))
    ingate, forgetgate, cellgate, outgate = (igates + hgates).split(H)
    cy = N(sigmoid(forgetgate) * cx + sigmoid(ingate) * tanh(cellgate), *p.cell_norm)
    return sigmoid(outgate) * tanh(cy), cy


def haste_lstm(p: Parts, x: Tensor, state: State) -> State:
    """layer_norm_lstm.py: gates i, g, f, o; gains without biases, one bias outside."""
    h, c = state
    Wx = N(p.W("igfo") @ x, p.gain("ih", "igfo"))
    Rh = N(p.U("igfo") @ h, p.gain("hh", "igfo"))
    i, g, f, o = (Wx + Rh + p.b("igfo")).split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(N(c, *p.cell_norm)), c


def haste_gru(p: Parts, x: Tensor, state: State) -> State:
    """layer_norm_gru.py: gates z, r, h; each term joint over 3H with a bias of its own."""
    (h,) = state
    Wx = N(p.W("zrn") @ x, p.gain("ih", "zrn")) + p.b("zrn")
    Rh = N(p.U("zrn") @ h, p.gain("hh", "zrn")) + p.b_hh("zrn")
    vx, vh = Wx.split(H), Rh.split(H)
    z = sigmoid(vx[0] + vh[0])
    r = sigmoid(vx[1] + vh[1])
    g = tanh(vx[2] + r * vh[2])
    return (z * h + (1 - z) * g,)


def tfa(p: Parts, x: Tensor, state: State) -> State:
    """layer_norm_lstm_cell.py: gates i, f, c, o; eps 1e-3; state is [h, normalised c]."""
    h, c = state
    z = N(p.W("ifgo") @ x, p.gain("ih", "ifgo"), p.beta("ih", "ifgo"), 1e-3)
    z = z + N(p.U("ifgo") @ h, p.gain("hh", "ifgo"), p.beta("hh", "ifgo"), 1e-3) + p.b("ifgo")
    i, f, g, o = z.split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    c = N(c, *p.cell_norm, 1e-3)
    return sigmoid(o) * tanh(c), c


def tf_contrib(p: Parts, x: Tensor, state: State) -> State:
    """LayerNormBasicLSTMCell: gates i, j, f, o; one matrix of [x, h]; forget bias 1 outside."""
    h, c = state
    args = torch.cat([x, h])

    def gate(name: str) -> Tensor:
        kernel = torch.cat([p.W(name), p.U(name)], 1)
        beta = p.beta("sum", name) - (1.0 if name == "f" else 0.0)
        return N(kernel @ args, p.gain("sum", name), beta, 1e-12)

    i, j, f, o = gate("i"), gate("g"), gate("f"), gate("o")
    new_c = c * sigmoid(f + 1.0) + sigmoid(i) * tanh(j)
    new_c = N(new_c, *p.cell_norm, 1e-12)
    return tanh(new_c) * sigmoid(o), new_c


def icefall_lstm(p: Parts, x: Tensor, state: State) -> State:
    """LayerNormLSTMCell.forward: four norms of the sums, one for the cell, fed back."""
    hx, cx = state
    gates = {
        name: N(
            p.W(name) @ x + p.b(name) + p.U(name) @ hx + p.b_hh(name),
            p.gain("sum", name),
            p.beta("sum", name),
        )
        for name in "ifgo"
    }
    cy = sigmoid(gates["f"]) * cx + sigmoid(gates["i"]) * tanh(gates["g"])
    cy = N(cy, *p.cell_norm)
    return sigmoid(gates["o"]) * tanh(cy), cy


def icefall_gru(p: Parts, x: Tensor, state: State) -> State:
    """LayerNormGRUCell.forward: norms of r, of z, and of i_n + r h_n."""
    (hx,) = state

    def gate(name: str) -> Tensor:
        total = p.W(name) @ x + p.b(name) + p.U(name) @ hx + p.b_hh(name)
        return sigmoid(N(total, p.gain("sum", name, "rz"), p.beta("sum", name, "rz")))

    r, z = gate("r"), gate("z")
    i_n, h_n = p.W("n") @ x + p.b("n"), p.U("n") @ hx + p.b_hh("n")
    n = tanh(N(i_n + r * h_n, p.gain("candidate", "n", "n"), p.beta("candidate", "n", "n")))
    return ((1 - z) * n + z * hx,)


def di_engine(p: Parts, x: Tensor, state: State) -> State:
    """LSTM.forward: gates i, f, o, u; the cell is not normalised."""
    h, c = state
    gate = N(p.W("ifog") @ x, p.gain("ih", "ifog"), p.beta("ih", "ifog"))
    gate = gate + N(p.U("ifog") @ h, p.gain("hh", "ifog"), p.beta("hh", "ifog")) + p.b("ifog")
    i, f, o, u = gate.split(H)
    c = sigmoid(f) * c + sigmoid(i) * tanh(u)
    return sigmoid(o) * tanh(c), c


def dreamer(p: Parts, x: Tensor, state: State) -> State:
    """LayerNormGRUCell: W[h, x] in one norm over r, c, u; update shifted by -1."""
    (h,) = state
    joint = torch.cat([p.U("rnz"), p.W("rnz")], 1) @ torch.cat([h, x])
    # The shift is a constant of the publication; here it is the initial value of the norm's bias.
    shift = torch.cat([torch.zeros(2 * H), torch.full((H,), -1.0)]).double()
    reset, cand, update = N(joint, p.gain("sum", "rnz"), p.beta("sum", "rnz") - shift).split(H)
    reset = sigmoid(reset)
    cand = tanh(reset * cand)
    update = sigmoid(update - 1)
    return (update * cand + (1 - update) * h,)


OF_ONE_ROW: list[tuple[str, str, Step]] = [
    ("ba2016", "LSTM", ba2016_lstm),
    ("layer", "LSTM", ba2016_lstm),
    ("ba2016_draw", "LSTM", ba2016_draw),
    ("ba2016", "GRU", ba2016_gru),
    ("layer", "GRU", layer_gru),
    ("kiros2016", "LSTM", kiros_lstm),
    ("kiros2016", "GRU", kiros_gru),
    ("kiros_torch", "LSTM", kiros_torch),
    ("fastrnns", "LSTM", fastrnns),
    ("nemo", "LSTM", fastrnns),
    ("haste", "LSTM", haste_lstm),
    ("haste", "GRU", haste_gru),
    ("tfa", "LSTM", tfa),
    ("tf_contrib", "LSTM", tf_contrib),
    ("icefall", "LSTM", icefall_lstm),
    ("icefall", "GRU", icefall_gru),
    ("di_engine", "LSTM", di_engine),
    ("dreamer", "GRU", dreamer),
]


@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize(("name", "cell", "step"), OF_ONE_ROW)
def test_as_published(name: str, cell: str, step: Step, randomised: bool) -> None:
    layer, parts = layer_and_parts(name, cell, randomised)
    x = torch.randn(T, B, I).double()
    states = [torch.randn(B, H).double() for _ in range(2 if cell == "LSTM" else 1)]
    compare_with(layer, row_by_row(step, parts, x, states), run_layer(layer, x, states))
