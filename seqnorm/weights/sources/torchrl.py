"""TorchRL: LSTM, GRU and their cells, and LSTMModule and GRUModule around torch's layers."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import AS_TORCH

PLACES = ("{name}_l{layer}{direction}", "{name}")

SOURCE = Source(
    title="TorchRL",
    directions=("", "_reverse"),
    layouts=(
        Layout("LSTM", None, "ifgo", AS_TORCH, (*PLACES, "lstm.{name}_l{layer}{direction}")),
        Layout("GRU", None, "rzn", AS_TORCH, (*PLACES, "gru.{name}_l{layer}{direction}")),
    ),
)
