"""Norms without statistics: S is empty in words, as a mask and as a picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn import statistics_set
from seqnorm.nn.statistics_sets import StatisticsSet

KINDS = (seqnorm.DynamicTanh, seqnorm.DynamicErf)
kinds = pytest.mark.parametrize("kind", KINDS)


def check_empty(of: StatisticsSet, shape: tuple[int, ...], lengths: Any = None) -> None:
    assert of.empty
    assert not of.spans_batch
    assert [of.running, of.per_step, of.centred] == [False, False, False]
    mask = of.mask(shape, (0,) * len(shape), lengths)
    assert mask.shape == shape
    assert not mask.any()
    assert of.words == "the empty set"
    text = str(of)
    assert "Takes no statistics, neither within one" in text
    assert "mean" not in text
    assert of.consequence == "No statistics: no other element matters."


@kinds
@pytest.mark.parametrize(("layout", "shape"), [("NTC", (2, 3, 4)), ("NCT", (2, 4, 3))])
def test_sequences(kind: Any, layout: str, shape: tuple[int, ...]) -> None:
    of = statistics_set(kind(8, layout=layout))
    assert of.axes == tuple(layout)
    check_empty(of, shape, [3, 1])
    with pytest.raises(ValueError, match="is padding"):
        of.mask(shape, (1, *([2, 0] if layout == "NTC" else [0, 2])), [3, 1])


@kinds
def test_images(kind: Any) -> None:
    of = statistics_set(kind(8, layout="NCT"), spatial=2)
    assert of.axes == ("N", "C", "H", "W")
    check_empty(of, (2, 4, 3, 3))
    with pytest.raises(ValueError, match="leave spatial out"):
        statistics_set(kind(8, layout="NTC"), spatial=2)


@pytest.mark.parametrize("kind", ["dynamic_tanh", "dynamic_erf"])
def test_sites_of_a_recurrence(kind: str) -> None:
    scheme = NormScheme(frame=Norm(kind), input=Norm("layer"), hidden=Norm(kind))
    layer = seqnorm.LSTM(3, 4, norm=scheme)
    sets = statistics_set(layer)
    for site in ("frame", "hidden"):
        check_empty(sets[site], (3, 2, 8), [3, 1])
    assert not sets["input"].empty
    assert sets["hidden"].gates == "ifgo"
    assert statistics_set(layer.norm_hh_l0).empty
    svg = sets.svg()
    assert "share the dot&#x27;s mean and variance" in svg
    assert "other elements" in svg


@kinds
def test_the_picture_has_a_dot_and_no_dark_element(kind: Any) -> None:
    for norm, options in ((kind(8, layout="NTC"), {}), (kind(8, layout="NCT"), {"spatial": 2})):
        of = statistics_set(norm, **options)
        svg = of.svg()
        full = statistics_set(nn.LayerNorm(8)).svg()
        assert "#0072b2" in full
        assert "#0072b2" not in svg
        assert svg.count("<ellipse") == 1
        assert "elements, each by itself" in svg
        assert "share the dot" not in svg


@pytest.mark.parametrize(
    "options", [{"spans": ("C",)}, {"groups": (2, 2)}, {"running": True}, {"centred": True}]
)
def test_an_empty_set_has_nothing_else(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"spans": (), "centred": False} | options
    with pytest.raises(ValueError, match="an empty S has no spans"):
        StatisticsSet("S", ("N", "C", "T"), empty=True, **given)


def test_a_subclass_with_a_forward_of_its_own_is_refused() -> None:
    class Other(seqnorm.DynamicTanh):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # on purpose
            return x

    with pytest.raises(TypeError, match="has a forward of its own"):
        statistics_set(Other(4, layout="NTC"))
