"""TensorFlow Addons: LayerNormLSTMCell and LayerNormSimpleRNNCell."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import affine, rows, transposed

PLACES = ("{name}", "{direction}/{name}", "{layer}/{name}", "{layer}/{direction}/{name}")
GAMMA_BETA = ("gamma", "beta")
MATRICES = {"kernel": transposed("weight_ih"), "recurrent_kernel": transposed("weight_hh")}
LSTM = {
    **MATRICES,
    "bias": rows("bias_ih"),
    **affine("kernel_norm/", "norm_ih", GAMMA_BETA),
    **affine("recurrent_norm/", "norm_hh", GAMMA_BETA),
    **affine("state_norm/", "norm_cell", GAMMA_BETA),
}
RNN = {
    **MATRICES,
    "bias": rows("norm_sum.bias"),
    "layernorm/gamma": rows("norm_sum.weight"),
}

SOURCE = Source(
    title="TensorFlow Addons",
    directions=("forward", "backward"),
    clean=lambda name: name.removesuffix(":0"),
    ordered=True,
    layouts=(
        Layout("LSTM", "tfa", "ifgo", LSTM, PLACES, eps_is_free=True),
        Layout("RNN", "tfa", "h", RNN, PLACES, eps_is_free=True),
    ),
)
