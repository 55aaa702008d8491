"""The presets against the cells as their authors wrote them.

Each function below transcribes one publication with its own gate order, its own split of the
matrices and its own places for the biases; none of them reads a scheme. Where a publication and
torch use the same letters for different gates, the comment says so.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, sigmoid, tanh

import seqnorm

I, H, T, B = 3, 4, 5, 4  # noqa: E741 (the axes' letters)
EPS = 1e-5


def N(  # noqa: N802 (the equations' letter)
    z: Tensor, gain: Tensor | float, bias: Tensor | float = 0.0, eps: float = EPS
) -> Tensor:
    """LayerNorm of a vector: biased variance, eps under the root."""
    mean = sum(z) / len(z)
    var = sum((z - mean) ** 2) / len(z)
    return gain * (z - mean) / torch.sqrt(var + eps) + bias


class Parts:
    """Parameters of a layer by gate: ``p.W("f")`` (H, I), ``p.U("f")`` (H, H), ``p.b("f")`` (H,).

    Several letters stack the gates in the order in which the publication stacks them.
    """

    def __init__(self, cell: str, values: dict[str, Tensor]) -> None:
        self.order = {"LSTM": "ifgo", "GRU": "rzn"}[cell]
        self.values = values

    def take(self, name: str, gates: str, order: str | None = None) -> Tensor:
        order = self.order if order is None else order
        blocks = self.values[name].split(H)
        assert len(blocks) == len(order), name
        return torch.cat([blocks[order.index(gate)] for gate in gates])

    def W(self, gates: str) -> Tensor:  # noqa: N802 (as N)
        return self.take("weight_ih_l0", gates)

    def U(self, gates: str) -> Tensor:  # noqa: N802 (as N)
        return self.take("weight_hh_l0", gates)

    def b(self, gates: str) -> Tensor:
        return self.take("bias_ih_l0", gates)

    def b_hh(self, gates: str) -> Tensor:
        return self.take("bias_hh_l0", gates)

    def gain(self, site: str, gates: str, order: str | None = None) -> Tensor:
        return self.take(f"norm_{site}_l0.weight", gates, order)

    def beta(self, site: str, gates: str, order: str | None = None) -> Tensor:
        return self.take(f"norm_{site}_l0.bias", gates, order)

    @property
    def cell_norm(self) -> tuple[Tensor, Tensor]:
        return self.values["norm_cell_l0.weight"], self.values["norm_cell_l0.bias"]


State = tuple[Tensor, ...]
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
    """Eq. 29-31: no norm but that of the cell."""
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
    """As eq. 26-28 with the roles of z as torch has them."""
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


def layer_and_parts(name: str, cell: str, randomised: bool) -> tuple[Any, Parts]:
    layer = getattr(seqnorm, cell)(I, H, norm=name, dtype=torch.float64)
    if randomised:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0.0, 0.7)
    return layer, Parts(cell, dict(layer.named_parameters()))


def run_layer(layer: Any, x: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
    single = len(states) == 1
    output, last = layer(x, states[0][None] if single else tuple(s[None] for s in states))
    return (output, last[0]) if single else (output, *(part[0] for part in last))


def compare_with(layer: Any, wanted: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> None:
    for what, expected, actual in zip(("output", "h", "c"), wanted, got):
        assert_close(actual, expected, VALUES, what)
    weights = [torch.randn_like(value) for value in wanted]
    names, parameters = zip(*layer.named_parameters())
    theirs, ours = (
        torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values)), parameters)
        for values in (wanted, got)
    )
    for name, expected, actual in zip(names, theirs, ours):
        assert_close(actual, expected, GRADIENTS, name)


@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize(("name", "cell", "step"), OF_ONE_ROW)
def test_as_published(name: str, cell: str, step: Step, randomised: bool) -> None:
    layer, parts = layer_and_parts(name, cell, randomised)
    x = torch.randn(T, B, I).double()
    states = [torch.randn(B, H).double() for _ in range(2 if cell == "LSTM" else 1)]
    outputs, finals = [], []
    for b in range(B):
        state: State = tuple(part[b] for part in states)
        rows = []
        for t in range(T):
            state = step(parts, x[t, b], state)
            rows.append(state[0])
        outputs.append(torch.stack(rows))
        finals.append(state)
    wanted = (torch.stack(outputs, 1), *(torch.stack(parts_) for parts_ in zip(*finals)))
    compare_with(layer, wanted, run_layer(layer, x, states))


class BN:
    """Eq. 6 of Cooijmans et al. 2017 at one site: statistics of the rows of one step.

    ``seen`` gathers the estimates that inference averages; with ``fixed`` they are used instead.
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
    """Training, then inference over more steps with the (unbiased) statistics of training."""
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
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
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
