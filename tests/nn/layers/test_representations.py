"""The norm in a printed layer; the rest is printed by torch, see test_torch_contract."""

from __future__ import annotations

from typing import Any

import pytest

import seqnorm
from seqnorm import Norm, NormScheme, preset
from seqnorm.nn.recurrence.presets import described
from seqnorm.nn.recurrence.step import STEPS

I, H = 3, 8  # noqa: E741  the axes' letters
NAMES = [(cell, name) for cell, cls in STEPS.items() for name in cls.presets]


@pytest.mark.parametrize(("cell", "name"), NAMES)
def test_a_preset_is_shown_by_its_name(cell: str, name: str) -> None:
    """It is shown by the first name of equal presets."""
    layer = getattr(seqnorm, cell)(I, H, norm=name)
    shown = repr(layer).split("\n")[1]
    of_name = eval(shown.partition("norm=")[2])
    assert preset(of_name, cell) == preset(name, cell)
    if name in ("layer", "rms", "batch", "batch_pooled"):
        assert of_name == name
    if preset(name, cell).output is None:
        alone = getattr(seqnorm, f"{cell}Cell")(I, H, norm=name)
        assert f"norm={of_name!r}" in repr(alone)


@pytest.mark.parametrize(
    ("scheme", "shown"),
    [
        (preset("batch", "LSTM", max_steps=50), "preset('batch', 'LSTM', max_steps=50)"),
        (
            preset("layer", "LSTM", eps=1e-3, cell_state="normalised"),
            "preset('layer', 'LSTM', cell_state='normalised', eps=0.001)",
        ),
        (preset("haste", "LSTM", gain=0.1), "preset('haste', 'LSTM', gain=0.1)"),
        (
            NormScheme(frame=Norm("rms"), output=Norm(eps=0.1), bias_ih="inside"),
            "NormScheme(frame=Norm('rms'), output=Norm('layer', eps=0.1), bias_ih='inside')",
        ),
        (
            NormScheme(input=Norm("batch_pooled", momentum=None), hidden=Norm("layer", 2)),
            "NormScheme(input=Norm('batch_pooled', momentum=None), hidden=Norm('layer', sets=2))",
        ),
    ],
)
def test_other_schemes_are_shown_as_they_are_written(scheme: NormScheme, shown: str) -> None:
    layer = seqnorm.LSTM(I, H, norm=scheme)
    assert repr(layer).startswith(f"LSTM(\n  3, 8, norm={shown}\n")
    names: dict[str, Any] = {"preset": preset, "NormScheme": NormScheme, "Norm": Norm}
    assert eval(shown, names) == scheme
    assert eval(repr(scheme), names) == scheme


def test_two_sites_that_differ_are_told_apart() -> None:
    """No single change of a preset can express both."""
    base = preset("layer", "GRU")
    scheme = base.replace(input=Norm("layer", eps=1e-3), hidden=Norm("layer", eps=1e-2))
    assert eval(described(scheme, seqnorm.GRU(I, H).step)) == scheme


def test_no_norm_is_not_mentioned() -> None:
    assert repr(seqnorm.LSTM(I, H)) == "LSTM(3, 8)"
    assert repr(seqnorm.GRUCell(I, H)) == "GRUCell(3, 8)"


def test_the_norm_of_a_site_shows_its_kind() -> None:
    """The default kind is shown as well."""
    layer = seqnorm.LSTM(I, H, norm="layer")
    assert repr(layer.norm_hh_l0) == "FeatureNorm(32, kind='layer')"
    rows = seqnorm.GRU(I, H, norm=preset("rms", "GRU")).norm_ih_l0
    assert repr(rows).startswith("FeatureNorm(24, kind='rms'")
    assert "kind='batch'" in repr(seqnorm.GRUCell(I, H, norm="batch").norm_ih)
