"""Flax, linen: LSTMCell, OptimizedLSTMCell, GRUCell and SimpleCell, with a kernel for each gate."""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, rows, transposed

PLACES = ("{name}", "cell/{name}", "{direction}/cell/{name}", "{layer}/{name}")


def kernels(gates: str) -> dict[str, Part]:
    """Return the parts of the kernels "ii", "if", ... of the input and "hi", ... of the state."""
    return {
        f"{letter}{gate}/kernel": transposed(of, gates=gate)
        for letter, of in (("i", "weight_ih"), ("h", "weight_hh"))
        for gate in gates
    }


def biases(of: str, letter: str, gates: str) -> dict[str, Part]:
    """Return the parts of the biases of some gates."""
    return {f"{letter}{gate}/bias": rows(of, gates=gate) for gate in gates}


LSTM = {**kernels("ifgo"), **biases("bias_ih", "h", "ifgo")}
GRU = {**kernels("rzn"), **biases("bias_ih", "i", "rzn"), **biases("bias_hh", "h", "n")}
SIMPLE = {
    "i/kernel": transposed("weight_ih"),
    "i/bias": rows("bias_ih"),
    "h/kernel": transposed("weight_hh"),
}

SOURCE = Source(
    title="Flax (linen)",
    directions=("forward_rnn", "backward_rnn"),
    clean=lambda name: name.replace(".", "/"),
    layouts=(
        Layout("LSTM", None, "ifgo", LSTM, PLACES, merged="ifgo"),
        Layout("GRU", None, "rzn", GRU, PLACES, merged="rz"),
        Layout("RNN", None, "h", SIMPLE, PLACES, merged="h"),
    ),
)
