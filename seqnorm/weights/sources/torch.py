"""torch.nn.LSTM, GRU and RNN, and their cells."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import AS_TORCH

PLACES = ("{name}_l{layer}{direction}", "{name}")
GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
NOTE = (
    "A layer with a norm that is to begin with weights of torch, without computing the same, comes "
    "from seqnorm.LSTM.from_torch(layer, norm=...)."
)

SOURCE = Source(
    title="torch",
    directions=("", "_reverse"),
    layouts=tuple(
        Layout(cell, None, gates, AS_TORCH, PLACES, note=NOTE) for cell, gates in GATES.items()
    ),
)
