"""A layer and its single step refuse options of other cells, with a remedy.

Axes: I = input size, H = hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import seqnorm
from seqnorm import Norm, NormScheme, preset
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.step import STEPS

I, H = 3, 8  # noqa: E741  the axes' letters
LAYER = Norm("layer")
GATE_SITES = ("input", "hidden", "sum")
WITHOUT_HEADS = [kind for kind in LAYERS if kind != "SLSTM"]
CHOOSING = ["RNN", "IndRNN", "LiGRU"]


def refused(kind: str, says: str, norm: Any = None, size: int = H, **options: Any) -> None:
    """Check that the layer and the cell refuse it."""
    for name in (kind, f"{kind}Cell"):
        with pytest.raises(ValueError, match=says):
            getattr(seqnorm, name)(I, size, norm=norm, **options)


def at(site: str, norm: Norm, **fields: Any) -> NormScheme:
    return NormScheme(**{site: norm}, bias_ih=None, **fields)


# Errors of a Norm or a scheme, before any cell gets it.
REFUSALS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no sets": (lambda: Norm(sets=0), ValueError, r"sets must be greater than zero, got 0"),
    "negative sets": (lambda: Norm(sets=-2), ValueError, r"sets must be greater .* got -2"),
    "sets bool": (lambda: Norm(sets=True), TypeError, r"sets should be .* number.*got bool"),
    "sets false": (lambda: Norm(sets=False), TypeError, r"sets should be .* number.*got bool"),
    "sets None": (lambda: Norm(sets=None), TypeError, r"sets should be .*got NoneType"),
    "sets head": (lambda: Norm(sets="head"), ValueError, r"'head'.*mean 'heads'"),
    "number of sets of a batch": (
        lambda: Norm("batch", sets=4),
        ValueError,
        r'sets=4 means nothing for \'batch\'.*leave sets="joint"',
    ),
    "heads of a batch": (
        lambda: Norm("batch_pooled", sets="heads"),
        ValueError,
        r'sets=\'heads\' means nothing for \'batch_pooled\'.*leave sets="joint"',
    ),
    "frame text": (
        lambda: NormScheme(frame="layer"),
        TypeError,
        r'frame must be a Norm or None, got str: write frame=Norm\("layer"\)',
    ),
    "output class": (lambda: NormScheme(output=Norm), TypeError, r"output must be .*got type"),
    "pooled in the recurrence": (
        lambda: NormScheme(hidden=Norm("batch_pooled")),
        ValueError,
        r'the future; "batch_pooled" can stand at input, frame and output, use "batch"',
    ),
    "preset of LiGRU": (
        lambda: preset("moumen2023", "GRU"),
        ValueError,
        r"'moumen2023' is published for LiGRU, not for GRU; for GRU there are layer, rms,",
    ),
    "preset of SLSTM": (
        lambda: seqnorm.RNN(I, H, norm="xlstm"),
        ValueError,
        r"'xlstm' is published for SLSTM, not for RNN; for RNN there are .*nemo_batch",
    ),
    "no such cell": (
        lambda: preset("layer", "IndRNNN"),
        ValueError,
        r"cell must be one of 'GRU'.*got 'IndRNNN' \(did you mean 'IndRNN'\?\)",
    ),
    "hx three of four": (
        lambda: seqnorm.SLSTM(I, H)(torch.zeros(2, 1, I), (torch.zeros(1, 1, H),) * 3),
        ValueError,
        r"hx must hold 4 states, got 3",
    ),
    "hx of other sizes": (
        lambda: seqnorm.SLSTM(I, H)(
            torch.zeros(2, 1, I), (*[torch.zeros(1, 1, H)] * 2, *[torch.zeros(1, 1, H + 1)] * 2)
        ),
        RuntimeError,
        r"Expected hidden\[2\] size \(1, 1, 8\), got \[1, 1, 9\]",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case: str) -> None:
    build, error, says = REFUSALS[case]
    with pytest.raises(error) as caught:
        build()
    assert re.search(says, str(caught.value)), f"{says!r} is not said by: {caught.value}"


@pytest.mark.parametrize("site", [*GATE_SITES, "frame"])
@pytest.mark.parametrize("kind", WITHOUT_HEADS)
def test_sets_of_heads_need_heads(kind: str, site: str) -> None:
    norm = Norm("rms", sets="heads")
    refused(kind, r'sets="heads": this cell has no heads; write sets=4', at(site, norm))
    with pytest.raises(ValueError, match='sets="heads"'):
        LAYERS[kind](I, H, norm=NormScheme(output=norm))


@pytest.mark.parametrize("kind", LAYERS)
def test_sets_have_to_divide_the_units(kind: str) -> None:
    gates = len(STEPS[kind].gates)
    five = Norm("rms", sets=5)
    refused(kind, rf"sets=5 must divide the {gates * H} units", at("input", five))
    refused(kind, rf"sets=5 must divide the {gates * H} units", at("hidden", five))
    refused(kind, rf"sets=5 must divide the {I} units", at("frame", five))
    with pytest.raises(ValueError, match=rf"sets=5 must divide the {H} units"):
        LAYERS[kind](I, H, norm=NormScheme(output=five))


def test_sets_divide_what_is_projected() -> None:
    scheme = NormScheme(output=Norm("layer", sets=4))
    with pytest.raises(ValueError, match=r"sets=4 must divide the 6 units of the norm"):
        seqnorm.LSTM(I, H, proj_size=6, norm=scheme)
    assert seqnorm.LSTM(I, H, norm=scheme).norm_output_l0.sizes == (2, 2, 2, 2)


def test_heads_divide_the_frame_too() -> None:
    """Units of x belong to no head, but are divided into the same number of sets if possible."""
    scheme = at("frame", Norm("layer", sets="heads"))
    refused("SLSTM", r"sets='heads' must divide the 3 units", scheme)
    assert seqnorm.SLSTM(8, H, norm=scheme).norm_frame_l0.sizes == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("kind", "norm", "size"),
    [
        ("RNN", at("input", Norm("layer", sets=8)), 8),
        ("IndRNN", "layer", 1),
        ("LiGRU", at("input", Norm("layer", sets="separate")), 1),
        ("SLSTM", at("hidden", Norm("layer", sets="heads")), 4),
    ],
)
def test_a_layer_norm_of_single_units(kind: str, norm: Any, size: int) -> None:
    refused(
        kind, r"one unit is always normalised to 0.*larger hidden_size, or fewer sets", norm, size
    )


def test_a_head_of_one_unit_cannot_be_layer_normed() -> None:
    with pytest.raises(ValueError, match=r"one unit.*larger hidden_size, or fewer sets"):
        seqnorm.SLSTM(I, 4, norm="layer")
    output, _ = seqnorm.SLSTM(I, 4, norm="layer", num_heads=2)(torch.randn(2, 1, I))
    assert output.shape == (2, 1, 4)


@pytest.mark.parametrize("sets", [1, 2, 3])
def test_a_gru_takes_no_number_of_sets_of_its_sum(sets: int) -> None:
    says = rf'sum=Norm\(sets={sets}\).*reset gate.*write "joint", "separate" or \("rz", "n"\)'
    for update in ("keep", "write"):
        refused("GRU", says, at("sum", Norm("layer", sets=sets), update=update))
    seqnorm.GRU(I, H, norm=at("input", Norm("layer", sets=sets)))


@pytest.mark.parametrize(
    ("kind", "sets", "right"),
    [
        ("LiGRU", ("z", "a"), r"\('a', 'z'\)"),
        ("LiGRU", ("rz", "n"), r"\('a', 'z'\)"),
        ("SLSTM", ("if", "go"), r"\('ifz', 'o'\)"),
    ],
)
def test_gates_are_divided_in_their_order(kind: str, sets: tuple[str, ...], right: str) -> None:
    gates = STEPS[kind].gates
    says = rf"must divide the gates '{gates}' in their order, as {right} does"
    refused(kind, says, at("input", Norm("layer", sets=sets)))


@pytest.mark.parametrize("init", ["orthogonal", "identity"])
def test_an_indrnn_has_no_square_matrix(init: str) -> None:
    says = rf'hidden_init=\'{init}\'.*one weight for each unit: leave hidden_init="uniform"'
    refused("IndRNN", says, NormScheme(hidden_init=init))
    refused("IndRNN", says, preset("layer", "IndRNN").replace(hidden_init=init))


@pytest.mark.parametrize("heads", [0, -4])
def test_heads_are_counted_from_one(heads: int) -> None:
    refused("SLSTM", rf"num_heads must be greater than zero, got {heads}", num_heads=heads)


@pytest.mark.parametrize("heads", [True, 2.0, "4", None])
def test_heads_are_an_integer(heads: Any) -> None:
    for cls in (seqnorm.SLSTM, seqnorm.SLSTMCell):
        with pytest.raises(TypeError, match=rf"num_heads .*int, got: {type(heads).__name__}"):
            cls(I, H, num_heads=heads)


@pytest.mark.parametrize(("heads", "size"), [(3, 8), (16, 8), (4, 6)])
def test_heads_have_to_divide_the_units(heads: int, size: int) -> None:
    says = f"num_heads={heads} must divide hidden_size={size}"
    refused("SLSTM", says, size=size, num_heads=heads)


def test_heads_leave_a_wrong_size_to_its_own_refusal() -> None:
    for cls in (seqnorm.SLSTM, seqnorm.SLSTMCell):
        with pytest.raises(TypeError, match=r"hidden_size .*int, got: float"):
            cls(I, 8.0)
        with pytest.raises(ValueError, match=r"hidden_size must be greater than zero, got 0"):
            cls(I, 0)


@pytest.mark.parametrize("nonlinearity", ["sigmoid", "Tanh", "", None])
@pytest.mark.parametrize("kind", CHOOSING)
def test_nonlinearities_are_two(kind: str, nonlinearity: Any) -> None:
    says = rf"Unknown nonlinearity {nonlinearity!r}\. Select from 'tanh' or 'relu'\."
    refused(kind, says, nonlinearity=nonlinearity)


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind not in CHOOSING])
def test_others_have_no_nonlinearity_to_choose(kind: str) -> None:
    for name in (kind, f"{kind}Cell"):
        with pytest.raises(TypeError, match="nonlinearity"):
            getattr(seqnorm, name)(I, H, nonlinearity="relu")


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "LSTM"])
def test_only_an_lstm_has_a_cell_state_to_normalise(kind: str) -> None:
    says = rf"an? {kind} has no cell state to normalise: leave cell=None"
    refused(kind, says, NormScheme(cell=LAYER))
    refused(kind, says, NormScheme(input=LAYER, cell=LAYER, cell_state="normalised"))


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "GRU"])
def test_only_a_gru_has_an_update_gate_to_turn_round(kind: str) -> None:
    says = f"{kind} has no update gate z: leave update='keep'"
    refused(kind, says, NormScheme(input=LAYER, update="write"))


@pytest.mark.parametrize("kind", LAYERS)
def test_gate_biases_name_gates_of_the_cell(kind: str) -> None:
    gates = STEPS[kind].gates
    says = rf"gate_bias names gate 'x'; an? {kind} has '{gates}'"
    refused(kind, says, NormScheme(gate_bias=(("x", 1.0),)))
    layer = LAYERS[kind](I, H, norm=NormScheme(gate_bias=((gates[-1], 1.0),)))
    assert layer.bias_ih_l0.tolist() == [0.0] * H * (len(gates) - 1) + [1.0] * H


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "LSTM"])
def test_only_an_lstm_is_projected_and_zoned_out_in_two(kind: str) -> None:
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        LAYERS[kind](I, H, proj_size=2)
    with pytest.raises(ValueError, match=r"zoneout is one probability, .*not \(0\.1, 0\.2\)"):
        LAYERS[kind](I, H, zoneout=(0.1, 0.2))
