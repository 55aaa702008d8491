"""Initial values of every preset: gains, biases, the biases of single gates, and matrices.

Axes: I = input size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle_cells import GATES
from tolerances import GRADIENTS, VALUES, assert_close

import seqnorm
from seqnorm import PRESETS, SLSTM, NormScheme

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
    ("batch_renorm", "LSTM"): (
        {"ih": (0.1, ABSENT), "hh": (0.1, ABSENT), "cell": (0.1, 0)},
        0,
        ABSENT,
    ),
    ("batch_renorm", "GRU"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT)}, 0, 0),
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
    ("returnn", "LSTM"): ({"ih": (1, 0), "hh": (1, ABSENT), "cell": (1, 0)}, ABSENT, ABSENT),
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
    ("nemo_batch", "LSTM"): ({"frame": (1, 0)}, ABSENT, ABSENT),
    ("nemo_batch", "GRU"): ({"frame": (1, 0)}, ABSENT, ABSENT),
    ("layer", "RNN"): ({"sum": (1, 0)}, ABSENT, ABSENT),
    ("rms", "RNN"): ({"sum": (1, 0)}, ABSENT, ABSENT),
    ("batch", "RNN"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT)}, 0, ABSENT),
    ("batch_pooled", "RNN"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("ba2016", "RNN"): ({"sum": (1, 0)}, ABSENT, ABSENT),
    ("tfa", "RNN"): ({"sum": (1, 0)}, ABSENT, ABSENT),
    ("laurent2016", "RNN"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("nemo_batch", "RNN"): ({"frame": (1, 0)}, ABSENT, ABSENT),
    ("layer", "IndRNN"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("rms", "IndRNN"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("batch", "IndRNN"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("batch_pooled", "IndRNN"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("haste", "IndRNN"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("layer", "LiGRU"): ({"ih": (1, 0)}, ABSENT, ABSENT),
    ("rms", "LiGRU"): ({"ih": (1, ABSENT)}, 0, ABSENT),
    ("batch", "LiGRU"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT)}, 0, ABSENT),
    ("batch_pooled", "LiGRU"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("ravanelli2018", "LiGRU"): ({"ih": (1, 0)}, ABSENT, ABSENT),
    ("moumen2023", "LiGRU"): ({"ih": (1, 0), "hh": (ABSENT, ABSENT)}, ABSENT, ABSENT),
    ("layer", "SLSTM"): ({"output": (1, ABSENT)}, 0, ABSENT),
    ("rms", "SLSTM"): ({"output": (1, ABSENT)}, 0, ABSENT),
    ("batch", "SLSTM"): ({"ih": (0.1, ABSENT), "hh": (0.1, ABSENT)}, 0, ABSENT),
    ("batch_pooled", "SLSTM"): ({"ih": (0.1, ABSENT)}, 0, ABSENT),
    ("xlstm", "SLSTM"): ({"output": (1, ABSENT)}, 0, ABSENT),
}
# The sum of all biases that are added to a gate after its norms.
GATE_BIAS = {
    ("batch", "LSTM"): ("f", 1.0),
    ("batch_renorm", "LSTM"): ("f", 1.0),
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
    gates = GATES[cell]
    given = dict(layer.named_parameters())
    norms, bias_ih, bias_hh = INITIAL[name, cell]
    wanted = {"bias_ih_l0": bias_ih, "bias_hh_l0": bias_hh}
    for site, (gain, bias) in norms.items():
        wanted |= {f"norm_{site}_l0.weight": gain, f"norm_{site}_l0.bias": bias}
    vectors = {key: v for key, v in given.items() if v.dim() == 1 and key != "weight_hh_l0"}
    assert vectors.keys() == {key for key, value in wanted.items() if value is not ABSENT}

    gate, amount = GATE_BIAS.get((name, cell), (None, 0.0))
    reaching = torch.zeros(hidden).double()
    for key, value in vectors.items():
        blocks = list(value.detach().split(I if "frame" in key else hidden))
        spanned = gates if len(blocks) > 1 else "n" if "candidate" in key else ""
        is_bias = not key.endswith("weight")
        if gate is not None and is_bias and gate in spanned[: len(blocks)]:
            reaching += blocks.pop(spanned.index(gate))
        left = torch.cat(blocks)
        if wanted[key] == U:
            bound = hidden**-0.5
            assert left.abs().max() <= bound, key
            # Values come from the whole interval, with some in both outer thirds.
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
    hidden_weight = layer.weight_hh_l0.detach()
    if cell == "IndRNN":
        assert hidden_weight.shape == (hidden,)
        assert bound / 2 < hidden_weight.abs().max() <= bound
        return
    size = hidden_weight.shape[1]
    assert size == (hidden // 4 if cell == "SLSTM" else hidden)
    eye = torch.eye(size).double()
    kinds = set()
    for block in hidden_weight.split(size):
        if torch.equal(block, eye):
            kinds.add("identity")
        elif (block @ block.T - eye).abs().max() < GRADIENTS:
            kinds.add("orthogonal")
        else:
            assert bound / 2 < block.abs().max() <= bound
            kinds.add("uniform")
    orthogonal = ("haste", "kiros2016", "tfa", "ravanelli2018", "moumen2023")
    wanted = {"jihunchoi": "identity", **dict.fromkeys(orthogonal, "orthogonal")}
    assert kinds == {wanted.get(name, "uniform")}


@pytest.mark.parametrize("start", ["orthogonal", "identity"])
def test_each_head_of_each_gate_is_a_square_block(start: str) -> None:
    scheme = NormScheme(hidden_init=start)
    weight = SLSTM(I, 12, num_heads=3, norm=scheme, dtype=torch.float64).weight_hh_l0.detach()
    eye = torch.eye(4).double()
    assert weight.shape == (48, 4)
    for block in weight.split(4):
        assert_close(block @ block.T, eye, GRADIENTS)
        assert torch.equal(block, eye) == (start == "identity")


@pytest.mark.parametrize(("cell", "letter"), [("SLSTM", "f"), ("LiGRU", "z")])
def test_the_bias_of_a_gate(cell: str, letter: str) -> None:
    layer = getattr(seqnorm, cell)(I, 8, norm=NormScheme(gate_bias=((letter, 2.0),)))
    for gate, block in zip(GATES[cell], layer.bias_ih_l0.split(8)):
        assert bool((block == (2.0 if gate == letter else 0.0)).all()), gate


# Biases of a cell without a norm: torch draws all of them, and the other cells follow the LSTM.
@pytest.mark.parametrize("cell", GATES)
def test_without_a_norm(cell: str) -> None:
    layer = getattr(seqnorm, cell)(I, 16)
    names = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    names |= {"bias_hh_l0"} if cell in ("LSTM", "GRU", "RNN") else set()
    given = dict(layer.named_parameters())
    assert given.keys() == names
    for name, value in given.items():
        assert 0.25 / 2 < value.abs().max() <= 0.25, name
        assert value.min() < 0.0 < value.max(), name
    assert not list(getattr(seqnorm, cell)(I, 16, bias=False).parameters())[2:]
