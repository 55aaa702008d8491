"""TensorFlow 1, contrib: LayerNormBasicLSTMCell, and with layer_norm=False, as BasicLSTMCell.

The equation of both adds 1 to the forget gate, which is a part of the bias here.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, affine, rows, transposed

PLACES = ("{name}", "{layer}/{name}")
KERNEL = {"kernel": transposed("weight_ih", "weight_hh")}
SHIFT = {"f": -1.0}


def of_gate(scope: str, gate: str) -> dict[str, Part]:
    """Return the parts of gain and bias of the norm of a gate."""
    return {
        f"{scope}/gamma": rows("norm_sum.weight", gates=gate),
        f"{scope}/beta": rows("norm_sum.bias", gates=gate, shift=SHIFT),
    }


LAYER_NORM = {
    **KERNEL,
    **of_gate("input", "i"),
    **of_gate("transform", "g"),
    **of_gate("forget", "f"),
    **of_gate("output", "o"),
    **affine("state/", "norm_cell", ("gamma", "beta")),
}
PLAIN = {**KERNEL, "bias": rows("bias_ih", shift=SHIFT)}

SOURCE = Source(
    title="TensorFlow 1",
    clean=lambda name: name.removesuffix(":0"),
    layouts=(
        Layout("LSTM", "tf_contrib", "igfo", LAYER_NORM, PLACES),
        Layout("LSTM", None, "igfo", PLAIN, PLACES, merged="ifgo"),
    ),
)
