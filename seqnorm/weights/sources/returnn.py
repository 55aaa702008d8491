"""RETURNN, tf/layers/rec.py: LayerNormVariantsLSTMCell with separate matrices (its default).

The bias of its forget gate is an initial value of a norm's bias, so it is in the weights already.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, rows, transposed

MATRICES = {"W_ff": transposed("weight_ih"), "W_re": transposed("weight_hh")}
CELL = {"gamma_new_c": rows("norm_cell.weight"), "beta_new_c": rows("norm_cell.bias")}
GLOBAL_NORM = {
    **MATRICES,
    "gamma_input_below": rows("norm_ih.weight"),
    "beta_input_below": rows("norm_ih.bias"),
    "gamma_state_below": rows("norm_hh.weight"),
    **CELL,
}


def of_gate(name: str, gate: str) -> dict[str, Part]:
    """Return the parts of gain and bias of the norm of a gate."""
    return {
        f"gamma_{name}_gate": rows("norm_sum.weight", gates=gate),
        f"beta_{name}_gate": rows("norm_sum.bias", gates=gate),
    }


PER_GATE_NORM = {
    **MATRICES,
    **of_gate("i", "i"),
    **of_gate("j", "g"),
    **of_gate("f", "f"),
    **of_gate("o", "o"),
    **CELL,
}

SOURCE = Source(
    title="RETURNN",
    clean=lambda name: name.removesuffix(":0"),
    layouts=(
        Layout("LSTM", "returnn", "igfo", GLOBAL_NORM, eps_is_free=True),
        Layout("LSTM", "tf_contrib", "igfo", PER_GATE_NORM, eps_is_free=True),
    ),
)
