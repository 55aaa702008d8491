"""Cooijmans's recurrent-batch-normalization: the LSTM of penntreebank.py.

Its running statistics, and the initial state that it learns, are not among these weights.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import rows, transposed

LSTM = {
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
    layouts=(Layout("LSTM", "cooijmans2016", "gfio", LSTM),),
)
