"""PyTorch's benchmark fastrnns, custom_lstms.py: LayerNormLSTMCell and LSTMCell."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import AS_TORCH, affine, rows

# One layer by itself, and layers of script_lstm and script_lnlstm in one and two directions.
PLACES = (
    "layers.{layer}.directions.{direction}.cell.{name}",
    "layers.{layer}.cell.{name}",
    "cell.{name}",
    "{name}",
)
ONE_WAY = (*PLACES[1:], PLACES[0])
LAYER_NORM = {
    "weight_ih": rows("weight_ih"),
    "weight_hh": rows("weight_hh"),
    **affine("layernorm_i.", "norm_ih"),
    **affine("layernorm_h.", "norm_hh"),
    **affine("layernorm_c.", "norm_cell"),
}

SOURCE = Source(
    title="fastrnns",
    directions=("0", "1"),
    layouts=(
        Layout("LSTM", "fastrnns", "ifgo", LAYER_NORM, ONE_WAY),
        Layout("LSTM", None, "ifgo", AS_TORCH, ONE_WAY),
    ),
)
