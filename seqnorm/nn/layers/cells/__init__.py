"""The published cells, one in each file: the step, its norms, the layer and the cell."""

from __future__ import annotations

from .dreamer import DreamerGRUCell
from .gru import GRU, GRUCell
from .indrnn import IndRNN, IndRNNCell
from .ligru import LiGRU, LiGRUCell
from .lstm import LSTM, LSTMCell
from .rnn import RNN, RNNCell
from .slstm import SLSTM, SLSTMCell

LAYERS = {layer.__name__: layer for layer in (LSTM, GRU, RNN, LiGRU, IndRNN, SLSTM)}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SLSTM",
    "DreamerGRUCell",
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "LSTMCell",
    "LiGRU",
    "LiGRUCell",
    "RNNCell",
    "SLSTMCell",
]
