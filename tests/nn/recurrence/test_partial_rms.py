"""Partial RMSNorm, in a recurrence and outside: the mean square of the first units of a set."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from comparing import Case, H, I, build, compare, randomise
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.statistics.moments import units_of_part

F64 = torch.float64
PARTS = (0.0625, 0.3, 0.75, 1.0)


def schemes(cell: str, part: float) -> dict[str, NormScheme]:
    one = Norm("rms", part=part)
    if cell == "SLSTM":
        return {"output": NormScheme(output=Norm("rms", sets="heads", part=part))}
    found = {"frame, input, output": NormScheme(frame=one, input=one, output=one)}
    if cell in ("LSTM", "GRU", "RNN"):
        apart = Norm("rms", sets="separate", part=part, eps_on="std", eps=0.1)
        found["separate"] = NormScheme(input=apart, hidden=apart)
        found["input before LayerNorm"] = NormScheme(input=one, hidden=Norm("layer"))
    if cell == "LSTM":
        found["cell"] = NormScheme(cell=one)
    return found


CASES = [(cell, name, part) for cell in LAYERS for part in PARTS for name in schemes(cell, part)]


@pytest.mark.parametrize(("cell", "name", "part"), CASES)
def test_layers_equal_the_oracle(cell: str, name: str, part: float) -> None:
    scheme = schemes(cell, part)[name]
    layer = build(cell, scheme)
    randomise(layer)
    compare(layer, scheme, Case.draw(layer))


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
@pytest.mark.parametrize("part", PARTS)
def test_sequences(part: float, layout: str) -> None:
    channels, lengths = 7, [3, 1]
    norm = seqnorm.RMSNorm(channels, 1e-3, part=part, layout=layout, dtype=F64)
    norm.weight.data.normal_()
    assert f"part={part}" in repr(norm)
    given = torch.randn(2, 3, channels, dtype=F64, requires_grad=True)
    x = given if layout == "NTC" else given.transpose(1, 2)
    y = norm(x, lengths)
    y = y if layout == "NTC" else y.transpose(1, 2)
    leaf = given.detach().clone().requires_grad_()
    weight = norm.weight.detach().clone().requires_grad_()
    rows: list[list[Tensor]] = []
    for n, length in enumerate(lengths):
        rows.append([torch.zeros(channels, dtype=F64)] * 3)
        for t in range(length):
            seen = [leaf[n, t, c] ** 2 for c in range(channels) if c < part * channels]
            rows[n][t] = weight * leaf[n, t] / (sum(seen) / len(seen) + 1e-3) ** 0.5
    expected = torch.stack([torch.stack(each) for each in rows])
    assert_close(y, expected, VALUES)
    cotangent = torch.randn_like(y)
    found = torch.autograd.grad(y, [given, norm.weight], cotangent)
    for actual, wanted in zip(found, torch.autograd.grad(expected, [leaf, weight], cotangent)):
        assert_close(actual, wanted, GRADIENTS)


@pytest.mark.parametrize(
    ("part", "units", "expected"),
    [(0.0625, 512, 32), (0.0625, 8, 1), (0.0625, 17, 2), (0.07, 100, 7), (1.0, 5, 5), (1e-4, 3, 1)],
)
def test_the_number_of_units(part: float, units: int, expected: int) -> None:
    assert units_of_part(part, units) == expected


def test_a_preset_has_the_norm_of_the_publication() -> None:
    scheme = seqnorm.preset("rms", "GRU", part=0.0625)
    assert scheme.hidden == Norm("rms", ("rz", "n"), bias=None, part=0.0625)
    assert NormScheme.from_text(scheme.text) == scheme
    with pytest.raises(ValueError, match="part: no norm of this scheme has this field"):
        seqnorm.preset("layer", "GRU", part=0.0625)


def test_the_kernels_say_that_they_have_none_for_it() -> None:
    x = torch.randn(4, 2, I)
    layer = LAYERS["LSTM"](I, H, norm=seqnorm.preset("rms", "LSTM", part=0.5))
    said = seqnorm.explain(layer, x)
    assert said.backends == {"_l0": "reference"}
    plain = seqnorm.explain(LAYERS["LSTM"](I, H, norm="rms"), x)
    if plain.backends == {"_l0": "cpu"}:
        assert said.reasons["_l0"]["cpu"] == "it has no kernel for a part of the units (part)"
    outside = NormScheme(input=Norm("rms", part=0.5), hidden=Norm("rms"))
    assert seqnorm.explain(LAYERS["LSTM"](I, H, norm=outside), x).backends == plain.backends


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (0.0, ValueError, r"part must lie in \(0, 1\] or be None, got 0"),
        (1.5, ValueError, "write part=0.0625"),
        ("half", TypeError, "part should be a number"),
        (math.nan, ValueError, "part must be finite"),
    ],
)
def test_refusals(part: Any, error: type[Exception], message: str) -> None:
    for make in (
        lambda: Norm("rms", part=part),
        lambda: seqnorm.RMSNorm(4, layout="NTC", part=part),
    ):
        with pytest.raises(error, match=message):
            make()


def test_other_kinds_have_no_part() -> None:
    for kind in ("layer", "batch", "dynamic_tanh"):
        with pytest.raises(ValueError, match=r"part is the part of the units .* not to"):
            Norm(kind, part=0.5)


def seen_by(function: Any, x: Tensor, element: int) -> Tensor:
    """Return a mask of the inputs that the output at one place depends on."""
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x).flatten()[element], x)
    return jacobian != 0


@pytest.mark.parametrize("part", [0.3, 0.75])
def test_the_set(part: float) -> None:
    """S is the first part of the channels: an output depends on S and on its own element."""
    norm = seqnorm.RMSNorm(5, part=part, layout="NTC", dtype=F64)
    of = seqnorm.statistics_set(norm)
    x = torch.randn(2, 3, 5, dtype=F64)
    for n, place in enumerate((n, t, c) for n in range(2) for t in range(3) for c in range(5)):
        own = torch.zeros(x.shape, dtype=torch.bool)
        own[place] = True
        mask = of.mask(x.shape, place)
        assert int(mask.sum()) == units_of_part(part, 5)
        assert torch.equal(mask | own, seen_by(norm, x, n))
    assert of.words == f"the first {100 * part:g} % of all channels, one sequence, one time step"
    assert "The channels after this part are divided by the same mean square." in str(of)


def test_the_sets_of_sites() -> None:
    for sets, words in (("joint", "all units of the gates"), ("separate", "all units of one gate")):
        scheme = NormScheme(hidden=Norm("rms", sets=sets, part=0.5))
        of = seqnorm.statistics_set(seqnorm.LSTM(I, H, norm=scheme))["hidden"]
        assert of.words.startswith(f"the first 50 % of {words}")
        mask = of.mask((2, 1, 16), (1, 0, 9))
        assert not mask[0].any()
        first = list(range(8)) if sets == "joint" else [8, 9]
        assert mask[1, 0].nonzero().flatten().tolist() == first
        svg = of.svg()
        assert "share the dot&#x27;s mean square" in svg
        assert "other elements" in svg
        assert "The units after this part" in svg
    scheme = NormScheme(output=Norm("rms", sets="heads", part=0.5))
    layer = seqnorm.SLSTM(I, 8, num_heads=2, norm=scheme)
    mask = seqnorm.statistics_set(layer)["output"].mask((1, 1, 8), (0, 0, 7))
    assert mask[0, 0].nonzero().flatten().tolist() == [4, 5]
