"""SpeechBrain, nnet/RNN.py: LiGRU with "batchnorm" or "layernorm", and SLiGRU with "batchnorm".

A bidirectional layer computes both directions with the same weights and statistics.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import affine, rows, running

PLACES = ("rnn.{layer}.{name}", "{name}")
# Masks of dropout and the initial state, which are no weights.
BUFFERS = ("norm.num_batches_tracked", "h_init", "drop_masks", "drop_mask_te")
LAYER_NORM = {
    "w.weight": rows("weight_ih"),
    "u.weight": rows("weight_hh"),
    **affine("norm.", "norm_ih"),
}
BATCH_NORM = {**LAYER_NORM, **running("norm.", "norm_ih")}
NOTE = (
    "LiGRU with the normalization 'batchnorm' is norm='ravanelli2018', and with any other word it "
    "is norm='layer'; SLiGRU must have recurrent_elementwise_affine=False, which is its default."
)

PRESETS = {"ravanelli2018": BATCH_NORM, "layer": LAYER_NORM, "moumen2023": BATCH_NORM}

SOURCE = Source(
    title="SpeechBrain",
    layouts=tuple(
        Layout("LiGRU", name, "az", tensors, PLACES, ignored=BUFFERS, shared=True, note=NOTE)
        for name, tensors in PRESETS.items()
    ),
)
