"""What every preset starts from: gains, biases, the bias of single gates, and matrices.

Axes: I = input size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close

import seqnorm
from seqnorm import PRESETS

I = 3  # noqa: E741 (the axis's letter)
U = "uniform"
ABSENT = None
# Gains and biases of the norms by site, then bias_ih, bias_hh. A site that is not listed is absent.
INITIAL: dict[tuple[str, str], tuple[dict[str, tuple[Any, Any]], Any, Any]] = {
    ("layer", "LSTM"): ({"ih": (1, 0), "hh": (1, 0), "cell": (1, 0)}, 0, ABSENT),
    ("layer", "GRU"): ({"ih": (1, 0), "hh": (1, 0)}, ABSENT, ABSENT),
    ("rms", "LSTM"): ({"ih": (1, ABSENT), "hh": (1, ABSENT), "cell": (1, ABSENT)}, 0, ABSENT),
    ("rms", "GRU"): ({"ih": (1, ABSENT), "hh": (1, ABSENT)}, 0, 0),
    ("batch", "LSTM"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT), "cell": (0.1, 0)}, 0, ABSENT),
    ("batch", "GRU"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT)}, 0, 0),
    ("batch_pooled", "LSTM"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("batch_pooled", "GRU"): ({"ih": (0.1, ABSENT)}, 0, 0),
    ("ba2016", "LSTM"): ({"ih": (1, 0), "hh": (1, 0), "cell": (1, 0)}, 0, ABSENT),
    ("ba2016", "GRU"): ({"ih": (1, 0), "hh": (1, 0)}, ABSENT, ABSENT),
    ("ba2016_draw", "LSTM"): ({"cell": (1, 0)}, 0, ABSENT),
    ("kiros2016", "LSTM"): ({"ih": (1, 0), "hh": (1, 0), "cell": (1, 0)}, 0, ABSENT),
    ("kiros2016", "GRU"): ({"ih": (1, 0), "hh": (1, 0)}, 0, ABSENT),
    ("kiros_torch", "LSTM"): ({"cell": (1, 0)}, U, U),
    ("fastrnns", "LSTM"): ({"ih": (1, 0), "hh": (1, 0), "cell": (1, 0)}, ABSENT, ABSENT),
    ("nemo", "LSTM"): ({"ih": (U, U), "hh": (U, U), "cell": (U, U)}, ABSENT, ABSENT),
    ("haste", "LSTM"): ({"ih": (1, ABSENT), "hh": (1, ABSENT), "cell": (1, 0)}, 0, ABSENT),
    ("haste", "GRU"): ({"ih": (1, ABSENT), "hh": (1, ABSENT)}, 0, 0),
    ("tfa", "LSTM"): ({"ih": (1, 0), "hh": (1, 0), "cell": (1, 0)}, 0, ABSENT),
    ("tf_contrib", "LSTM"): ({"sum": (1, 0), "cell": (1, 0)}, ABSENT, ABSENT),
    ("icefall", "LSTM"): ({"sum": (U, U), "cell": (U, U)}, U, U),
    ("icefall", "GRU"): ({"sum": (U, U), "candidate": (U, U)}, U, U),
    ("di_engine", "LSTM"): ({"ih": (1, 0), "hh": (1, 0)}, U, ABSENT),
    ("dreamer", "GRU"): ({"sum": (1, 0)}, ABSENT, ABSENT),
    ("cooijmans2016", "LSTM"): (
        {"ih": (0.1, ABSENT), "hh": (0.1, ABSENT), "cell": (0.1, 0)},
        0,
        ABSENT,
    ),
    ("cooijmans2016_sequencewise", "LSTM"): (
        {"ih": (0.1, ABSENT), "hh": (0.1, ABSENT), "cell": (0.1, 0)},
        0,
        ABSENT,
    ),
    ("jihunchoi", "LSTM"): ({"ih": (0.1, 0), "hh": (0.1, 0), "cell": (0.1, 0)}, 0, ABSENT),
    ("laurent2016", "LSTM"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("laurent2016", "GRU"): ({"ih": (1, ABSENT)}, 0, 0),
}
# What all biases that reach a gate after its norms add up to.
GATE_BIAS = {
    ("batch", "LSTM"): ("f", 1.0),
    ("cooijmans2016", "LSTM"): ("f", 1.0),
    ("cooijmans2016_sequencewise", "LSTM"): ("f", 1.0),
    ("nemo", "LSTM"): ("f", 1.0),
    ("haste", "LSTM"): ("f", 1.0),
    ("tfa", "LSTM"): ("f", 1.0),
    ("tf_contrib", "LSTM"): ("f", 1.0),
    ("dreamer", "GRU"): ("z", -1.0),
}


def test_every_preset_has_its_initial_values_pinned() -> None:
    assert set(INITIAL) == {(name, cell) for name, cells in PRESETS.items() for cell in cells}


@pytest.mark.parametrize(("name", "cell"), INITIAL)
def test_initial_values(name: str, cell: str) -> None:
    hidden = 16
    layer = getattr(seqnorm, cell)(I, hidden, norm=name, dtype=torch.float64)
    gates = {"LSTM": "ifgo", "GRU": "rzn"}[cell]
    given = dict(layer.named_parameters())
    norms, bias_ih, bias_hh = INITIAL[name, cell]
    wanted = {"bias_ih_l0": bias_ih, "bias_hh_l0": bias_hh}
    for site, (gain, bias) in norms.items():
        wanted |= {f"norm_{site}_l0.weight": gain, f"norm_{site}_l0.bias": bias}
    vectors = {key: value for key, value in given.items() if value.dim() == 1}
    assert vectors.keys() == {key for key, value in wanted.items() if value is not ABSENT}

    gate, amount = GATE_BIAS.get((name, cell), (None, 0.0))
    reaching = torch.zeros(hidden).double()
    for key, value in vectors.items():
        blocks = list(value.detach().split(hidden))
        spanned = gates if len(blocks) > 1 else "" if "cell" in key else "n"
        is_bias = not key.endswith("weight")
        if gate is not None and is_bias and gate in spanned[: len(blocks)]:
            reaching += blocks.pop(spanned.index(gate))
        left = torch.cat(blocks)
        if wanted[key] == U:
            bound = hidden**-0.5
            assert left.abs().max() <= bound, key
            # Drawn over the whole interval: both outer thirds are met.
            assert left.min() < -bound / 3, key
            assert left.max() > bound / 3, key
        else:
            assert bool((left == wanted[key]).all()), key
    if gate is not None:
        assert_close(reaching, torch.full((hidden,), amount).double(), VALUES, f"bias of {gate}")


@pytest.mark.parametrize(("name", "cell"), INITIAL)
def test_initial_matrices(name: str, cell: str) -> None:
    hidden = 16
    layer = getattr(seqnorm, cell)(I, hidden, norm=name, dtype=torch.float64)
    bound = hidden**-0.5
    assert bound / 2 < layer.weight_ih_l0.abs().max() <= bound
    eye = torch.eye(hidden).double()
    kinds = set()
    for block in layer.weight_hh_l0.detach().split(hidden):
        if torch.equal(block, eye):
            kinds.add("identity")
        elif (block @ block.T - eye).abs().max() < GRADIENTS:
            kinds.add("orthogonal")
        else:
            assert bound / 2 < block.abs().max() <= bound
            kinds.add("uniform")
    wanted = {"jihunchoi": "identity", "haste": "orthogonal", "kiros2016": "orthogonal"}
    wanted["tfa"] = "orthogonal"
    assert kinds == {wanted.get(name, "uniform")}
