"""NVIDIA NeMo, nemo/collections/common/parts/rnn.py: ln_lstm, BNRNNSum and LSTMDropout."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import AS_TORCH, Part, affine, rows, running

LAYER_NORM = {
    "weight_ih": rows("weight_ih"),
    "weight_hh": rows("weight_hh"),
    **affine("layernorm_i.", "norm_ih"),
    **affine("layernorm_h.", "norm_hh"),
    **affine("layernorm_c.", "norm_cell"),
}
# Torch's layer without biases, after a BatchNorm1d over all frames.
BATCH_NORM: dict[str, Part] = {
    **affine("bn.module.", "norm_frame"),
    **running("bn.module.", "norm_frame"),
    "rnn.weight_ih_l0": rows("weight_ih"),
    "rnn.weight_hh_l0": rows("weight_hh"),
}
GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
FIRST = (
    "NeMo's first layer has no norm, unless it was built with norm_first_rnn=True: load it by "
    "itself as weights of 'torch', with norm=None and prefix='layers.0.rnn.'."
)

SOURCE = Source(
    title="NeMo",
    layouts=(
        Layout(
            "LSTM",
            "nemo",
            "ifgo",
            LAYER_NORM,
            ("layers.{layer}.cell.{name}", "cell.{name}", "{name}"),
        ),
        *(
            Layout(
                cell,
                "nemo_batch",
                gates,
                BATCH_NORM,
                ("layers.{layer}.{name}", "{name}"),
                ignored=("bn.module.num_batches_tracked",),
                note=FIRST,
            )
            for cell, gates in GATES.items()
        ),
        Layout(
            "LSTM", None, "ifgo", AS_TORCH, ("lstm.{name}_l{layer}", "{name}_l{layer}", "{name}")
        ),
    ),
)
