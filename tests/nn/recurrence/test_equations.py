"""Every layer compared with the float64 oracle: values, states, statistics and every gradient."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from comparing import (
    BATCHED,
    DISTINCT,
    HEADS,
    NONLINEARITY,
    SHAPES,
    STEPS,
    Case,
    H,
    I,
    build,
    compare,
    randomise,
    scheme_of,
)
from hidden_states import as_hx, parts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import VALUES

from seqnorm import Norm, NormScheme

SHAPED = [
    pytest.param(name, cell, shape, id=f"{name}-{cell}-{shape}")
    for name, cell in DISTINCT
    for shape in SHAPES
    if cell == "LSTM" or shape not in ("projected", "all")
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell", "shape"), SHAPED)
def test_against_oracle(name: str, cell: str, shape: str, mode: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, **SHAPES[shape])
    randomise(layer)
    compare(layer.train(mode == "train"), scheme, Case.draw(layer))


@pytest.mark.parametrize("states", ["none", "zero"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell"), DISTINCT)
def test_at_initial_values(name: str, cell: str, mode: str, states: str) -> None:
    """Zero states also occur; their hidden term has variance 0 and gradients of 1 / sqrt(eps)."""
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, bidirectional=True)
    compare(layer.train(mode == "train"), scheme, Case.draw(layer, states))


@pytest.mark.parametrize("steps", [4, 6])
@pytest.mark.parametrize(("name", "cell"), DISTINCT)
def test_equal_lengths(name: str, cell: str, steps: int) -> None:
    """Shortcuts for sequences of equal length, with and without padding at the end."""
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, num_layers=2, bidirectional=True)
    randomise(layer)
    compare(layer, scheme, Case.draw(layer, lengths=(4, 4, 4), steps=steps))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": None},
        {"max_steps": 2, "momentum": 1.0},
        {"max_steps": 5, "min_count": 3, "momentum": 0.5},
    ],
    ids=["default", "cumulative", "two_steps", "three_rows"],
)
@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_training_then_inference(name: str, cell: str, changes: dict[str, Any]) -> None:
    """Three training calls of different lengths precede inference past the longest of them."""
    scheme = scheme_of(name, cell)
    assert scheme is not None
    scheme = scheme.replace(**changes)
    layer = build(cell, scheme, bidirectional=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.6)
    for lengths in [(2, 4, 1), (1, 3, 4, 5, 2), (3, 0, 2, 2)]:
        compare(layer.train(), scheme, Case.draw(layer, lengths=lengths, steps=5))
    for lengths in [(7, 2, 6), (1,), (0,)]:
        compare(layer.eval(), scheme, Case.draw(layer, lengths=lengths, steps=7))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_one_sequence_and_none(name: str, cell: str, mode: str) -> None:
    """A batch with too few rows reads the table in training and does not change it."""
    scheme = scheme_of(name, cell)
    assert scheme is not None
    for lengths in [(4,), (0, 0), (0, 1, 0), (1, 1)]:
        layer = build(cell, scheme).train(mode == "train")
        short = any(
            norm.over_batch
            and ((norm.over_time and sum(lengths)) or sum(n > 0 for n in lengths)) == 1
            for norm in scheme.norms.values()
        )
        with (
            pytest.warns(UserWarning, match="1 row") if short and layer.training else nullcontext()
        ):
            compare(layer, scheme, Case.draw(layer, lengths=lengths))
        randomise(layer)
        # It has warned once and does not warn again.
        compare(layer, scheme, Case.draw(layer, lengths=lengths))


OTHERS = [cell for cell in STEPS if cell not in ("LSTM", "GRU")]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"nonlinearity": "relu"}),
    ("IndRNN", {"nonlinearity": "relu"}),
    ("LiGRU", {"nonlinearity": "tanh"}),
    ("SLSTM", {"num_heads": 1}),
    ("SLSTM", {"num_heads": 4, "hidden": 8}),
]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["none", "layer", "batch"])
@pytest.mark.parametrize(("cell", "options"), OPTIONS)
def test_options_of_a_cell(cell: str, options: dict[str, Any], name: str, mode: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, bidirectional=True, **options)
    randomise(layer)
    compare(layer.train(mode == "train"), scheme, Case.draw(layer))


KINDS_WITHIN = ("layer", "rms", "batch")
KINDS_HERE = dict.fromkeys(("hidden", "sum", "cell"), KINDS_WITHIN)
KINDS_HERE |= dict.fromkeys(("input", "frame", "output"), (*KINDS_WITHIN, "batch_pooled"))
SPELLED: dict[str, tuple[Any, ...]] = {
    "LSTM": (("i", "fgo"), ("if", "go")),
    "GRU": (("rz", "n"),),
    "LiGRU": (("a", "z"),),
    "SLSTM": (("if", "zo"),),
}


def sets_of(site: str, cell: str) -> tuple[Any, ...]:
    """Return all ways to divide the units of a site without sets of one unit."""
    if site == "frame":
        return ("joint", "separate", 1)
    found = ["joint", "separate", 1, 2]
    if site in ("input", "hidden", "sum"):
        found += SPELLED.get(cell, ())
    if cell in HEADS:
        found.append("heads")
    if (cell, site) == ("GRU", "sum"):
        found = [sets for sets in found if not isinstance(sets, int)]
    return tuple(found)


@st.composite
def norms(draw: st.DrawFn, site: str, cell: str) -> Norm:
    kind = draw(st.sampled_from(KINDS_HERE[site]))
    of_rows = kind in ("layer", "rms")
    table: dict[str, Any] = {}
    if not of_rows:
        table["momentum"] = draw(st.sampled_from((0.1, 0.7, None)))
        table["max_steps"] = draw(st.sampled_from((1, 3, 9)))
        table["min_count"] = draw(st.sampled_from((2, 3)))
    return Norm(
        kind,
        sets=draw(st.sampled_from(sets_of(site, cell))) if of_rows else "joint",
        gain=draw(st.sampled_from((None, 1.0, "uniform"))),
        bias=draw(st.sampled_from((None, 0.0, "uniform"))),
        eps=draw(st.sampled_from((1e-5, 1e-3, 0.3))),
        eps_on=draw(st.sampled_from(("var", "std"))),
        **table,
    )


@st.composite
def schemes(draw: st.DrawFn, cell: str) -> NormScheme:
    def site(name: str) -> Norm | None:
        return draw(st.none() | norms(name, cell))

    summed = draw(st.booleans())
    places = ("inside", None) if summed else ("inside", "outside", "both", None)
    n_cell = site("cell") if cell == "LSTM" else None
    return NormScheme(
        input=None if summed else site("input"),
        hidden=None if summed else site("hidden"),
        sum=draw(norms("sum", cell)) if summed else None,
        cell=n_cell,
        frame=site("frame"),
        output=site("output"),
        cell_state=draw(st.sampled_from(("raw", "normalised"))) if n_cell else "raw",
        bias_ih=draw(st.sampled_from(places)),
        bias_hh=draw(st.sampled_from(places)),
        update=draw(st.sampled_from(("keep", "write"))) if cell == "GRU" else "keep",
    )


@pytest.mark.parametrize("cell", STEPS)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data(), seed=st.integers(0, 2**20), training=st.booleans())
def test_any_scheme(cell: str, data: st.DataObject, seed: int, training: bool) -> None:
    scheme = data.draw(schemes(cell))
    states = data.draw(st.sampled_from(("random", "zero", "none")))
    torch.manual_seed(seed)
    options: dict[str, Any] = {"bidirectional": True, "bias": data.draw(st.booleans())}
    if cell in NONLINEARITY:
        options["nonlinearity"] = data.draw(st.sampled_from(("tanh", "relu")))
    layer = build(cell, scheme, **options)
    randomise(layer)
    compare(layer.train(training), scheme, Case.draw(layer, states, lengths=(3, 4, 0, 1), steps=4))


@pytest.mark.parametrize("shape", ["one", "projected", "all"])
@pytest.mark.parametrize("zoneout", [(0.3, 0.3), (0.0, 0.8), (1.0, 0.2)])
@pytest.mark.parametrize("name", ["none", "layer", "batch", "fastrnns"])
def test_zoneout_of_the_lstm(name: str, shape: str, zoneout: tuple[float, float]) -> None:
    """Inference takes the expectation; the output shows the cell before zoneout of the cell."""
    scheme = scheme_of(name, "LSTM")
    layer = build("LSTM", scheme, zoneout=zoneout, **SHAPES[shape]).eval()
    randomise(layer)
    compare(layer, scheme, Case.draw(layer), zoneout)


ZONED = [("dreamer", "GRU"), ("icefall", "GRU")]
ZONED += [(name, cell) for name in ("none", "layer", "batch") for cell in ("GRU", *OTHERS)]


@pytest.mark.parametrize(("name", "cell"), ZONED)
def test_zoneout_of_h(name: str, cell: str) -> None:
    """Zoneout of h is the only one for cells other than the LSTM, before a norm of the output."""
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, zoneout=0.4, bidirectional=True).eval()
    randomise(layer)
    compare(layer, scheme, Case.draw(layer), (0.4,))


def test_one_zoneout_stands_for_both_states() -> None:
    layer = build("LSTM", None, zoneout=0.25).eval()
    compare(layer, None, Case.draw(layer), (0.25, 0.25))


@pytest.mark.parametrize("cell", STEPS)
def test_zoneout_in_training_keeps_or_replaces(cell: str) -> None:
    """Each unit after one step has its old or its new value, in the given proportion."""
    layer = build(cell, None, zoneout=0.3).train()
    without = build(cell, None)
    without.load_state_dict(layer.state_dict())
    sequences = 500
    case = Case.draw(layer, lengths=(1,) * sequences, steps=1)
    assert case.states is not None
    zoned, fresh = (parts_of(of(case.input, as_hx(case.states))[1]) for of in (layer, without))
    held = {"LSTM": "hc"}.get(cell, "h")
    kept = 0
    for letter, old, was, now in zip(STEPS[cell].states, case.states, zoned, fresh):
        same_old, same_new = was == old, (was - now).abs() < VALUES
        assert bool((same_old | same_new).all())
        assert letter in held or not same_old.any()
        kept += int(same_old.sum())
    total = sequences * H * len(held)
    # Five standard deviations of a binomial.
    assert abs(kept - 0.3 * total) < 5 * (total * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_a_step_without_statistics_is_refused(name: str, cell: str) -> None:
    scheme = scheme_of(name, cell)
    assert scheme is not None
    scheme = scheme.replace(beyond="error")
    layer = build(cell, scheme)
    case = Case.draw(layer, lengths=(4, 4, 4), steps=4)
    with pytest.raises(IndexError, match="step 0 has no statistics of its own"):
        layer.eval()(case.input)
    compare(layer.train(), scheme, case)
    compare(layer.eval(), scheme, case)
    longer = torch.randn(5, 3, I).double()
    if any(norm.kind == "batch" for norm in scheme.norms.values()):
        with pytest.raises(IndexError, match="step 4 has no statistics of its own"):
            layer(longer)
        short = scheme.replace(max_steps=4)
        with pytest.raises(IndexError, match="step 4 has no statistics of its own"):
            build(cell, short)(longer)
    else:
        # One set over all frames serves every step.
        compare(layer, scheme, Case(longer, (5, 5, 5), None))
    # A late step with few rows does not stop training.
    layer = build(cell, scheme)
    compare(layer, scheme, Case.draw(layer, lengths=(4, 3, 2), steps=4))
