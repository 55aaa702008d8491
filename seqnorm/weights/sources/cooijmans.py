"""Cooijmans's recurrent-batch-normalization: the LSTM of penntreebank.py.

Its running statistics are not among these weights. It learns the state with which sequences begin.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, transposed

LSTM = {
    "h0": rows("h_0"),
    "c0": rows("c_0"),
    "Wa": transposed("weight_hh"),
    "Wx": transposed("weight_ih"),
    "bn_a.gammas": rows("norm_hh.weight"),
    "bn_a.betas": rows("bias_ih"),
    "bn_b.gammas": rows("norm_ih.weight"),
    "bn_c.gammas": rows("norm_cell.weight"),
    "bn_c.betas": rows("norm_cell.bias"),
}

SOURCE = Source(
    title="recurrent-batch-normalization (Cooijmans)",
    layouts=(
        Layout(
            "LSTM",
            "cooijmans2016",
            "gfio",
            LSTM,
            note="h0 and c0 are the learned initial state of a layer with "
            "learn_initial_state=True: without it, leave them out, and give the layer hx",
        ),
    ),
)
