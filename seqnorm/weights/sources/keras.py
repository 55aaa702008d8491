"""Keras: LSTM, GRU (reset_after=True) and SimpleRNN, their cells, and Bidirectional around them."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, stacked, transposed

PLACES = ("{name}", "{direction}/{name}", "{layer}/{name}", "{layer}/{direction}/{name}")
MATRICES = {"kernel": transposed("weight_ih"), "recurrent_kernel": transposed("weight_hh")}
ONE_BIAS = {**MATRICES, "bias": rows("bias_ih")}
TWO_BIASES = {**MATRICES, "bias": stacked("bias_ih", "bias_hh")}
NOTE = (
    "A GRU of Keras must have reset_after=True, which is its default: with reset_after=False it "
    "applies the reset gate before the product with the recurrent kernel, and has one bias."
)

SOURCE = Source(
    title="Keras",
    directions=("forward", "backward"),
    clean=lambda name: name.removesuffix(":0"),
    ordered=True,
    layouts=(
        Layout("LSTM", None, "ifgo", ONE_BIAS, PLACES, merged="ifgo"),
        Layout("GRU", None, "zrn", TWO_BIASES, PLACES, note=NOTE),
        Layout("RNN", None, "h", ONE_BIAS, PLACES, merged="h"),
    ),
)
