"""haste's PyTorch package: LayerNormLSTM, LayerNormGRU, LayerNormIndRNN, LSTM, GRU and IndRNN."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, stacked, transposed

# Several modules of one layer, as a Sequential or a ModuleList numbers them.
PLACES = ("{name}", "{layer}.{name}")
LSTM = {
    "kernel": transposed("weight_ih"),
    "recurrent_kernel": transposed("weight_hh"),
    "bias": rows("bias_ih"),
}
GRU = {**LSTM, "recurrent_bias": rows("bias_hh")}
INDRNN = {
    "kernel": transposed("weight_ih"),
    "recurrent_scale": rows("weight_hh"),
    "bias": rows("bias_ih"),
}
GAMMA = {"gamma": stacked("norm_ih.weight", "norm_hh.weight")}
CELL = {"gamma_h": rows("norm_cell.weight"), "beta_h": rows("norm_cell.bias")}

SOURCE = Source(
    title="haste",
    layouts=(
        Layout("LSTM", "haste", "igfo", {**LSTM, **GAMMA, **CELL}, PLACES, holds_h=True),
        Layout("LSTM", None, "igfo", LSTM, PLACES, merged="ifgo", holds_h=True),
        Layout("GRU", "haste", "zrn", {**GRU, **GAMMA}, PLACES),
        Layout("GRU", None, "zrn", GRU, PLACES),
        Layout(
            "IndRNN",
            "haste",
            "h",
            {**INDRNN, "gamma": rows("norm_ih.weight")},
            PLACES,
            nonlinearity="tanh",
        ),
        Layout("IndRNN", None, "h", INDRNN, PLACES, nonlinearity="tanh"),
    ),
)
