"""sheeprl's LayerNormGRUCell for Dreamer, whose one matrix has the columns of the state first.

Its equation subtracts 1 from the update gate, which is a part of the norm's bias here.
"""

from __future__ import annotations

from ..layout import Layout, Source
from ..parts import columns, rows

GRU = {
    "linear.weight": columns("weight_hh", "weight_ih"),
    "layer_norm.weight": rows("norm_sum.weight"),
    "layer_norm.bias": rows("norm_sum.bias", shift={"z": 1.0}),
}
NOTE = "The linear layer must be without a bias, as in Dreamer."

SOURCE = Source(
    title="sheeprl",
    layouts=(Layout("GRU", "dreamer", "rnz", GRU, eps_is_free=True, note=NOTE),),
)
