"""NX-AI's xlstm: sLSTMLayer without convolution, with the kernels of the backend "vanilla".

The projection "fgate" feeds the input gate and "igate" the forget gate, as in the published code,
and the weight of the group norm is stored without its 1.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import Part, rows

GATES = {"fgate": "i", "igate": "f", "zgate": "z", "ogate": "o"}
SLSTM = {
    **{f"{n}.weight": Part(("weight_ih",), gate, view="blocks") for n, gate in GATES.items()},
    "slstm_cell._recurrent_kernel_": Part(("weight_hh",), view="heads_first"),
    "slstm_cell._bias_": rows("bias_ih"),
    "group_norm.weight": rows("norm_output.weight", shift={"": -1.0}),
}

SOURCE = Source(
    title="xlstm (NX-AI)",
    layouts=(Layout("SLSTM", "xlstm", "ifzo", SLSTM),),
)
