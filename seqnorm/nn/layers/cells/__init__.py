"""One cell a file: its mathematics, its published norms, the layer and the single step."""

from __future__ import annotations

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
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "LSTMCell",
    "LiGRU",
    "LiGRUCell",
    "RNNCell",
    "SLSTMCell",
]
