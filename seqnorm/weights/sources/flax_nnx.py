"""Flax, nnx: OptimizedLSTMCell, GRUCell and SimpleCell with joint kernels, and LSTMCell."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, rows, transposed
from .flax import PLACES

DENSE = {"dense_i/kernel": transposed("weight_ih"), "dense_h/kernel": transposed("weight_hh")}
OPTIMIZED = {**DENSE, "dense_h/bias": rows("bias_ih")}
# A GRU has no bias within the product with the reset gate, unlike that of linen.
ONE_BIAS = {**DENSE, "dense_i/bias": rows("bias_ih")}


def of_gate(gate: str) -> dict[str, Part]:
    """Return the parts of one gate of LSTMCell, whose modules are "ii", "if_", "hi", ..."""
    return {
        f"i{'f_' if gate == 'f' else gate}/kernel": transposed("weight_ih", gates=gate),
        f"h{gate}/kernel": transposed("weight_hh", gates=gate),
        f"h{gate}/bias": rows("bias_ih", gates=gate),
    }


BY_GATE = {name: part for gate in "ifgo" for name, part in of_gate(gate).items()}

SOURCE = Source(
    title="Flax (nnx)",
    directions=("forward_rnn", "backward_rnn"),
    clean=lambda name: name.replace(".", "/"),
    layouts=(
        Layout("LSTM", None, "ifgo", OPTIMIZED, PLACES, merged="ifgo"),
        Layout("LSTM", None, "ifgo", BY_GATE, PLACES, merged="ifgo"),
        Layout("GRU", None, "rzn", ONE_BIAS, PLACES, merged="rz"),
        Layout("RNN", None, "h", ONE_BIAS, PLACES, merged="h"),
    ),
)
