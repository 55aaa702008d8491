"""jihunchoi's recurrent-batch-normalization-pytorch: BNLSTMCell and LSTMCell of bnlstm.py.

Each norm has two buffers for every time step, which become rows of a running table.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import affine, rows, running, transposed

PLACES = ("cell_{layer}.{name}", "{name}")
PLAIN = {
    "weight_ih": transposed("weight_ih"),
    "weight_hh": transposed("weight_hh"),
    "bias": rows("bias_ih"),
}
BATCH_NORM = {
    **PLAIN,
    **affine("bn_ih.", "norm_ih"),
    **running("bn_ih.", "norm_ih", "_{step}"),
    **affine("bn_hh.", "norm_hh"),
    **running("bn_hh.", "norm_hh", "_{step}"),
    **affine("bn_c.", "norm_cell"),
    **running("bn_c.", "norm_cell", "_{step}"),
}

SOURCE = Source(
    title="jihunchoi's bnlstm",
    layouts=(
        Layout("LSTM", "jihunchoi", "fiog", BATCH_NORM, PLACES),
        Layout("LSTM", None, "fiog", PLAIN, PLACES, merged="ifgo"),
    ),
)
