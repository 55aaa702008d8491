"""One step of published cells, computed from weights in the layout of their authors.

Each function transcribes one publication with its own order of gates and its own matrices; none of
them reads the tables of ``seqnorm.weights``.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from publications import N, State
from torch import Tensor, sigmoid, tanh

Weights = dict[str, Tensor]
Step = Callable[[Weights, Tensor, State], State]


def gates(value: Tensor, count: int = 4) -> Sequence[Tensor]:
    return value.chunk(count)


def lstm(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor, norm: Any, fed: bool) -> State:
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    seen = norm(c)
    return sigmoid(o) * tanh(seen), seen if fed else c


def kiros_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    given = N(x @ w["W"] + w["b"], w["s1"], w["b1"])
    i, f, o, g = gates(N(h @ w["U"], w["s2"], w["b2"]) + given + w["b"])
    return lstm(i, f, g, o, c, lambda c: N(c, w["s3"], w["b3"]), False)


def kiros_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    a = N(x @ w["W"] + w["b"], w["s1"], w["b1"]) + N(h @ w["U"], w["s3"], w["b3"])
    r, u = (sigmoid(part) for part in gates(a, 2))
    new = N(x @ w["Wx"] + w["bx"], w["s2"], w["b2"])
    new = tanh(N(h @ w["Ux"], w["s4"], w["b4"]) * r + new)
    return (u * h + (1 - u) * new,)


def kiros_lua(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def layer(n: int) -> Tensor:
        of_x = w[f"i2h.{n}.weight"] @ x + w[f"i2h.{n}.bias"]
        return of_x + w[f"h2h.{n}.weight"] @ h + w[f"h2h.{n}.bias"]

    def norm(c: Tensor) -> Tensor:
        centred = c - c.mean()
        std = (centred**2).mean().sqrt()
        return w["ln.weight"] * centred / (std + 1e-5) + w["ln.bias"]

    return lstm(layer(0), layer(1), layer(3), layer(2), c, norm, False)


def custom_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(w["weight_ih"] @ x, w["layernorm_i.weight"], w["layernorm_i.bias"])
    a = a + N(w["weight_hh"] @ h, w["layernorm_h.weight"], w["layernorm_h.bias"])
    i, f, g, o = gates(a)
    return lstm(i, f, g, o, c, lambda c: N(c, w["layernorm_c.weight"], w["layernorm_c.bias"]), True)


def haste_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(x @ w["kernel"], w["gamma"][0]) + N(h @ w["recurrent_kernel"], w["gamma"][1])
    i, g, f, o = gates(a + w["bias"])
    return lstm(i, f, g, o, c, lambda c: N(c, w["gamma_h"], w["beta_h"]), False)


def haste_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    vx = gates(N(x @ w["kernel"], w["gamma"][0]) + w["bias"], 3)
    vh = gates(N(h @ w["recurrent_kernel"], w["gamma"][1]) + w["recurrent_bias"], 3)
    z, r = sigmoid(vx[0] + vh[0]), sigmoid(vx[1] + vh[1])
    return (z * h + (1 - z) * tanh(vx[2] + r * vh[2]),)


def haste_indrnn(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    return (tanh(N(x @ w["kernel"], w["gamma"]) + w["bias"] + w["recurrent_scale"] * h),)


def tfa_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    z = N(x @ w["kernel"], w["kernel_norm/gamma"], w["kernel_norm/beta"], 1e-3)
    z = z + N(h @ w["recurrent_kernel"], w["recurrent_norm/gamma"], w["recurrent_norm/beta"], 1e-3)
    i, f, g, o = gates(z + w["bias"])
    last = w["state_norm/gamma"], w["state_norm/beta"]
    return lstm(i, f, g, o, c, lambda c: N(c, *last, 1e-3), True)


def tfa_rnn(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    net = N(x @ w["kernel"] + h @ w["recurrent_kernel"], w["layernorm/gamma"])
    return (tanh(net + w["bias"]),)


def tf1_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def norm(value: Tensor, scope: str) -> Tensor:
        return N(value, w[f"{scope}/gamma"], w[f"{scope}/beta"], 1e-12)

    i, j, f, o = gates(torch.cat([x, h]) @ w["kernel"])
    i, j, f, o = norm(i, "input"), norm(j, "transform"), norm(f, "forget"), norm(o, "output")
    return lstm(i, f + 1.0, j, o, c, lambda c: norm(c, "state"), True)


def icefall_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def norm(value: Tensor, name: str) -> Tensor:
        return N(value, w[f"layernorm_{name}.weight"], w[f"layernorm_{name}.bias"])

    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = (norm(part, name) for part, name in zip(gates(a), ("i", "f", "cx", "o")))
    return lstm(i, f, g, o, c, lambda c: norm(c, "cy"), True)


def icefall_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state

    def norm(value: Tensor, name: str) -> Tensor:
        return N(value, w[f"layernorm_{name}.weight"], w[f"layernorm_{name}.bias"])

    x_r, x_i, x_n = gates(w["weight_ih"] @ x + w["bias_ih"], 3)
    h_r, h_i, h_n = gates(w["weight_hh"] @ h + w["bias_hh"], 3)
    r, z = sigmoid(norm(x_r + h_r, "r")), sigmoid(norm(x_i + h_i, "i"))
    n = tanh(norm(x_n + r * h_n, "n"))
    return ((1 - z) * n + z * h,)


def di_engine_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(x @ w["wx.0"], w["norm.0.weight"], w["norm.0.bias"])
    a = a + N(h @ w["wh.0"], w["norm.1.weight"], w["norm.1.bias"]) + w["bias"][0]
    i, f, o, u = gates(a)
    return lstm(i, f, u, o, c, lambda c: c, False)


def sheeprl_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    a = N(w["linear.weight"] @ torch.cat([h, x]), w["layer_norm.weight"], w["layer_norm.bias"])
    reset, cand, update = gates(a, 3)
    cand, update = tanh(sigmoid(reset) * cand), sigmoid(update - 1)
    return (update * cand + (1 - update) * h,)


def ligru(w: Weights, given: Tensor, h: Tensor, stable: bool) -> State:
    product = w["u.weight"] @ h
    a, z = gates(given + (N(product, 1.0) if stable else product), 2)
    z = sigmoid(z)
    return (z * h + (1 - z) * torch.relu(a),)


def ligru_layer(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, N(w["w.weight"] @ x, w["norm.weight"], w["norm.bias"]), state[0], False)


def fixed(w: Weights, name: str, value: Tensor, suffix: str = "") -> Tensor:
    """BatchNorm in inference, with running statistics."""
    mean, var = w[f"{name}.running_mean{suffix}"], w[f"{name}.running_var{suffix}"]
    value = (value - mean) / torch.sqrt(var + 1e-5) * w[f"{name}.weight"]
    return value + w[f"{name}.bias"]


def ligru_batch(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, fixed(w, "norm", w["w.weight"] @ x), state[0], False)


def sligru_batch(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, fixed(w, "norm", w["w.weight"] @ x), state[0], True)


def bn(rows: Tensor, gain: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    mean = sum(rows) / len(rows)
    var = sum((rows - mean) ** 2) / len(rows)
    return gain * (rows - mean) / torch.sqrt(var + 1e-5) + bias


def cooijmans(w: Weights, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute outputs and final states of penntreebank.py with the statistics of the batch."""
    outputs = []
    for x_t in x:
        a = bn(h @ w["Wa"], w["bn_a.gammas"], w["bn_a.betas"]) + bn(x_t @ w["Wx"], w["bn_b.gammas"])
        g, f, i, o = a.chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(bn(c, w["bn_c.gammas"], w["bn_c.betas"]))
        outputs.append(h)
    return torch.stack(outputs), h, c


ORIGINALS: dict[tuple[str, str], Step] = {
    ("kiros2016", "LSTM"): kiros_lstm,
    ("kiros2016", "GRU"): kiros_gru,
    ("kiros_torch", "LSTM"): kiros_lua,
    ("fastrnns", "LSTM"): custom_lstm,
    ("nemo", "LSTM"): custom_lstm,
    ("haste", "LSTM"): haste_lstm,
    ("haste", "GRU"): haste_gru,
    ("haste", "IndRNN"): haste_indrnn,
    ("tfa", "LSTM"): tfa_lstm,
    ("tfa", "RNN"): tfa_rnn,
    ("tf_contrib", "LSTM"): tf1_lstm,
    ("icefall", "LSTM"): icefall_lstm,
    ("icefall", "GRU"): icefall_gru,
    ("di_engine", "LSTM"): di_engine_lstm,
    ("dreamer", "GRU"): sheeprl_gru,
    ("layer", "LiGRU"): ligru_layer,
    ("ravanelli2018", "LiGRU"): ligru_batch,
    ("moumen2023", "LiGRU"): sligru_batch,
}
