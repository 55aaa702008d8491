"""R. Kiros's layer-norm for Torch 7: LSTM_LN.lua.

The module has eight linear layers without names: number them as the file makes them.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, affine, rows

LSTM: dict[str, Part] = {
    f"{name}.{number}.{kind}": rows(f"{kind}_{ours}", gates=gate)
    for name, ours in (("i2h", "ih"), ("h2h", "hh"))
    for number, gate in enumerate("ifog")
    for kind in ("weight", "bias")
}

SOURCE = Source(
    title="layer-norm (R. Kiros) for Torch 7",
    layouts=(Layout("LSTM", "kiros_torch", "ifog", {**LSTM, **affine("ln.", "norm_cell")}),),
)
