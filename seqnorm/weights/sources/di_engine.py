"""DI-engine, ding/torch_utils/network/rnn.py: LSTM, of which this is one layer.

Its ``bias`` has a row for each layer: give one layer's as ``bias[k : k + 1]``.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import affine, stacked, transposed

LSTM = {
    "wx.0": transposed("weight_ih"),
    "wh.0": transposed("weight_hh"),
    "bias": stacked("bias_ih"),
    **affine("norm.0.", "norm_ih"),
    **affine("norm.1.", "norm_hh"),
}

SOURCE = Source(
    title="DI-engine",
    layouts=(Layout("LSTM", "di_engine", "ifog", LSTM),),
)
