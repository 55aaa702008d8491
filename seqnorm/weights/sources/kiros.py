"""R. Kiros's layer-norm for Theano: lnlstm_layer and lngru_layer of layers.py.

The bias ``b`` of the LSTM is one vector that enters twice, and the preset does the same.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, transposed

LSTM = {
    "W": transposed("weight_ih"),
    "U": transposed("weight_hh"),
    "b": rows("bias_ih"),
    "b1": rows("norm_ih.bias"),
    "b2": rows("norm_hh.bias"),
    "b3": rows("norm_cell.bias"),
    "s1": rows("norm_ih.weight"),
    "s2": rows("norm_hh.weight"),
    "s3": rows("norm_cell.weight"),
}
GRU = {
    "W": transposed("weight_ih", gates="rz"),
    "b": rows("bias_ih", gates="rz"),
    "U": transposed("weight_hh", gates="rz"),
    "Wx": transposed("weight_ih", gates="n"),
    "Ux": transposed("weight_hh", gates="n"),
    "bx": rows("bias_ih", gates="n"),
    "b1": rows("norm_ih.bias", gates="rz"),
    "b2": rows("norm_ih.bias", gates="n"),
    "b3": rows("norm_hh.bias", gates="rz"),
    "b4": rows("norm_hh.bias", gates="n"),
    "s1": rows("norm_ih.weight", gates="rz"),
    "s2": rows("norm_ih.weight", gates="n"),
    "s3": rows("norm_hh.weight", gates="rz"),
    "s4": rows("norm_hh.weight", gates="n"),
}

SOURCE = Source(
    title="layer-norm (R. Kiros)",
    layouts=(
        Layout("LSTM", "kiros2016", "ifog", LSTM, ("{name}", "lnlstm_{name}")),
        Layout("GRU", "kiros2016", "rzn", GRU, ("{name}", "lngru_{name}")),
    ),
)
