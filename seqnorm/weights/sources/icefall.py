"""icefall, transducer/rnn.py: LayerNormLSTM and LayerNormGRU, with a norm for each gate."""

from __future__ import annotations

from collections.abc import Mapping

from ..layout import Layout, Source
from ..parts import AS_TORCH, Part, affine, rows

PLACES = ("layers.{layer}.cell.{name}", "cell.{name}", "{name}")
MATRICES = {name: part for name, part in AS_TORCH.items() if name != "weight_hr"}


def of_gates(site: str, names: Mapping[str, str]) -> dict[str, Part]:
    """Return the parts of gains and biases of a site, of which each gate has its own module."""
    return {
        f"layernorm_{name}.{kind}": rows(f"{site}.{kind}", gates=gate)
        for gate, name in names.items()
        for kind in ("weight", "bias")
    }


LSTM = {
    **MATRICES,
    **of_gates("norm_sum", {"i": "i", "f": "f", "g": "cx"}),
    **affine("layernorm_cy.", "norm_cell"),
    **of_gates("norm_sum", {"o": "o"}),
}
GRU = {
    **MATRICES,
    **of_gates("norm_sum", {"r": "r", "z": "i"}),
    **of_gates("norm_candidate", {"n": "n"}),
}

SOURCE = Source(
    title="icefall",
    layouts=(
        Layout("LSTM", "icefall", "ifgo", LSTM, PLACES),
        Layout("GRU", "icefall", "rzn", GRU, PLACES),
    ),
)
