"""haste's TensorFlow package: LayerNormLSTM, LayerNormGRU, LSTM and GRU.

Both matrices are one variable, the input first, and so are both biases of a GRU.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, stacked, transposed

PLACES = ("{name}", "{direction}/{name}", "{layer}/{name}", "{layer}/{direction}/{name}")
KERNEL = {"kernel": transposed("weight_ih", "weight_hh")}
LSTM = {**KERNEL, "bias": rows("bias_ih")}
GRU = {**KERNEL, "bias": rows("bias_ih", "bias_hh")}
GAMMA = {"gamma": stacked("norm_ih.weight", "norm_hh.weight")}
CELL = {"gamma_h": rows("norm_cell.weight"), "beta_h": rows("norm_cell.bias")}

SOURCE = Source(
    title="haste for TensorFlow",
    directions=("fw", "bw"),
    clean=lambda name: name.removesuffix(":0"),
    layouts=(
        Layout("LSTM", "haste", "igfo", {**LSTM, **GAMMA, **CELL}, PLACES, holds_h=True),
        Layout("LSTM", None, "igfo", LSTM, PLACES, merged="ifgo", holds_h=True),
        Layout("GRU", "haste", "zrn", {**GRU, **GAMMA}, PLACES),
        Layout("GRU", None, "zrn", GRU, PLACES),
    ),
)
