"""One step of further cells of other libraries, computed from weights in their own layout.

Most of them have no norm. Each function transcribes one cell of one library, as ``originals`` does,
and none of them reads the tables of ``seqnorm.weights``.

Axes: I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from originals import Weights, fixed, gates, lstm
from publications import N, State
from torch import Tensor, sigmoid, tanh

Step = Callable[[Weights, Tensor, State], State]


def plain(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor) -> State:
    return lstm(i, f, g, o, c, lambda c: c, False)


def torch_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = gates(a)
    return plain(i, f, g, o, c)


def torch_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    x_r, x_z, x_n = gates(w["weight_ih"] @ x + w["bias_ih"], 3)
    h_r, h_z, h_n = gates(w["weight_hh"] @ h + w["bias_hh"], 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    return ((1 - z) * tanh(x_n + r * h_n) + z * h,)


def torch_rnn(w: Weights, x: Tensor, state: State) -> State:
    return (tanh(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ state[0] + w["bias_hh"]),)


def haste_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, g, f, o = gates(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])
    return plain(i, f, g, o, c)


def haste_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    vx = gates(x @ w["kernel"] + w["bias"], 3)
    vh = gates(h @ w["recurrent_kernel"] + w["recurrent_bias"], 3)
    z, r = sigmoid(vx[0] + vh[0]), sigmoid(vx[1] + vh[1])
    return (z * h + (1 - z) * tanh(vx[2] + r * vh[2]),)


def haste_indrnn(w: Weights, x: Tensor, state: State) -> State:
    return (tanh(x @ w["kernel"] + w["bias"] + state[0] * w["recurrent_scale"]),)


def split(w: Weights, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return both products of haste for TensorFlow, whose kernels are one variable."""
    return x @ w["kernel"][: len(x)], h @ w["kernel"][len(x) :]


def haste_tf_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    given, product = split(w, x, h)
    i, g, f, o = gates(given + product + w["bias"])
    return plain(i, f, g, o, c)


def haste_tf_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    bias, recurrent_bias = gates(w["bias"], 2)
    given, product = split(w, x, h)
    vx, vh = gates(given + bias, 3), gates(product + recurrent_bias, 3)
    z, r = sigmoid(vx[0] + vh[0]), sigmoid(vx[1] + vh[1])
    return (z * h + (1 - z) * tanh(vx[2] + r * vh[2]),)


def haste_tf_norm_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    given, product = split(w, x, h)
    a = N(given, w["gamma"][0]) + N(product, w["gamma"][1]) + w["bias"]
    i, g, f, o = gates(a)
    return lstm(i, f, g, o, c, lambda c: N(c, w["gamma_h"], w["beta_h"]), False)


def haste_tf_norm_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    bias, recurrent_bias = gates(w["bias"], 2)
    given, product = split(w, x, h)
    vx = gates(N(given, w["gamma"][0]) + bias, 3)
    vh = gates(N(product, w["gamma"][1]) + recurrent_bias, 3)
    z, r = sigmoid(vx[0] + vh[0]), sigmoid(vx[1] + vh[1])
    return (z * h + (1 - z) * tanh(vx[2] + r * vh[2]),)


def keras_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, f, g, o = gates(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"])
    return plain(i, f, g, o, c)


def keras_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    x_z, x_r, x_h = gates(x @ w["kernel"] + w["bias"][0], 3)
    h_z, h_r, h_h = gates(h @ w["recurrent_kernel"] + w["bias"][1], 3)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    return (z * h + (1 - z) * tanh(x_h + r * h_h),)


def keras_rnn(w: Weights, x: Tensor, state: State) -> State:
    return (tanh(x @ w["kernel"] + w["bias"] + state[0] @ w["recurrent_kernel"]),)


def linen_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, f, g, o = (
        x @ w[f"i{gate}/kernel"] + h @ w[f"h{gate}/kernel"] + w[f"h{gate}/bias"] for gate in "ifgo"
    )
    return plain(i, f, g, o, c)


def linen_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    r = sigmoid(x @ w["ir/kernel"] + w["ir/bias"] + h @ w["hr/kernel"])
    z = sigmoid(x @ w["iz/kernel"] + w["iz/bias"] + h @ w["hz/kernel"])
    n = tanh(x @ w["in/kernel"] + w["in/bias"] + r * (h @ w["hn/kernel"] + w["hn/bias"]))
    return ((1 - z) * n + z * h,)


def linen_simple(w: Weights, x: Tensor, state: State) -> State:
    return (tanh(x @ w["i/kernel"] + w["i/bias"] + state[0] @ w["h/kernel"]),)


def nnx_optimized(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, f, g, o = gates(x @ w["dense_i/kernel"] + h @ w["dense_h/kernel"] + w["dense_h/bias"])
    return plain(i, f, g, o, c)


def nnx_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i = x @ w["ii/kernel"] + h @ w["hi/kernel"] + w["hi/bias"]
    f = x @ w["if_/kernel"] + h @ w["hf/kernel"] + w["hf/bias"]
    g = x @ w["ig/kernel"] + h @ w["hg/kernel"] + w["hg/bias"]
    o = x @ w["io/kernel"] + h @ w["ho/kernel"] + w["ho/bias"]
    return plain(i, f, g, o, c)


def nnx_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    x_r, x_z, x_n = gates(x @ w["dense_i/kernel"] + w["dense_i/bias"], 3)
    h_r, h_z, h_n = gates(h @ w["dense_h/kernel"], 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    return ((1 - z) * tanh(x_n + r * h_n) + z * h,)


def nnx_simple(w: Weights, x: Tensor, state: State) -> State:
    return (tanh(x @ w["dense_i/kernel"] + w["dense_i/bias"] + state[0] @ w["dense_h/kernel"]),)


def tf1_basic(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, j, f, o = gates(torch.cat([x, h]) @ w["kernel"] + w["bias"])
    return plain(i, f + 1.0, j, o, c)


def jihunchoi_plain(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    f, i, o, g = gates(h @ w["weight_hh"] + w["bias"] + x @ w["weight_ih"])
    return plain(i, f, g, o, c)


def returnn_global(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    below = N(x @ w["W_ff"], w["gamma_input_below"], w["beta_input_below"], 1e-12)
    i, j, f, o = gates(below + N(h @ w["W_re"], w["gamma_state_below"], 0.0, 1e-12))
    last = w["gamma_new_c"], w["beta_new_c"]
    return lstm(i, f, j, o, c, lambda c: N(c, *last, 1e-12), True)


def returnn_gates(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    i, j, f, o = (
        N(value, w[f"gamma_{gate}_gate"], w[f"beta_{gate}_gate"], 1e-12)
        for gate, value in zip("ijfo", gates(x @ w["W_ff"] + h @ w["W_re"]))
    )
    last = w["gamma_new_c"], w["beta_new_c"]
    return lstm(i, f, j, o, c, lambda c: N(c, *last, 1e-12), True)


def nemo_frames(cell: str) -> Step:
    """Return the step of torch's cell without biases, after a norm of the input in inference."""
    after = {"LSTM": torch_lstm, "GRU": torch_gru, "RNN": torch_rnn}[cell]

    def step(w: Weights, x: Tensor, state: State) -> State:
        own = {kind: w[f"rnn.{kind}_l0"] for kind in ("weight_ih", "weight_hh")}
        zeros = own["weight_ih"].new_zeros(len(own["weight_ih"]))
        biases = {"bias_ih": zeros, "bias_hh": zeros}
        return after({**own, **biases}, fixed(w, "bn.module", x), state)

    return step
