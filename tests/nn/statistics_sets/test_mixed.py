"""The sets that a mixing norm averages over, found by changing one input at a time."""

from __future__ import annotations

import copy
import itertools
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.statistics_sets import MixedSets, drawing, statistics_set

SHAPE = (3, 4, 2, 3)
SVG = "{http://www.w3.org/2000/svg}"
PARTS = {
    "BatchInstanceNorm2d": ["batch", "instance"],
    "SwitchableNorm2d": ["instance", "layer", "batch"],
}
# The sets are those of these norms, whose masks are compared with their answers.
ALONE = {
    "batch": nn.BatchNorm2d(4),
    "instance": nn.InstanceNorm2d(4),
    "layer": nn.GroupNorm(1, 4),
}
names = pytest.mark.parametrize("name", PARTS)


def build(name: str) -> tuple[nn.Module, MixedSets]:
    norm = getattr(seqnorm, name)(4, eps=0.1, dtype=torch.float64)
    if name == "BatchInstanceNorm2d":
        norm.rho.data.fill_(0.4)
    return norm, statistics_set(norm)


@names
def test_the_mask_has_all_elements_that_an_answer_depends_on(name: str) -> None:
    norm, sets = build(name)
    x = torch.randn(*SHAPE, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        y: Tensor = copy.deepcopy(norm)(x)  # each call has new running statistics
        return y

    before, rows = function(x), []
    for number in range(x.numel()):
        other = x.clone()
        other.view(-1)[number] += 0.7
        rows.append(((function(other) - before).abs() > 1e-9).flatten())
    found = torch.stack(rows, 1)
    for number, element in enumerate(itertools.product(*map(range, SHAPE))):
        assert torch.equal(sets.mask(SHAPE, element).flatten(), found[number]), element


@names
def test_each_part_is_the_set_of_a_norm(name: str) -> None:
    _, sets = build(name)
    assert list(sets) == PARTS[name]
    assert len(sets) == len(PARTS[name])
    for part, of in sets.items():
        alone = statistics_set(ALONE[part])
        assert of.channels == 4
        assert (of.words, of.running) == (alone.words, alone.running)
        for element in ((0, 0, 0, 0), (2, 3, 1, 2)):
            assert torch.equal(of.mask(SHAPE, element), alone.mask(SHAPE, element))


def test_words() -> None:
    _, sets = build("BatchInstanceNorm2d")
    assert sets.words == (
        "batch: one channel, all examples of the mini-batch, all positions; "
        "instance: one channel, one example, all positions"
    )
    text = str(sets)
    assert text.startswith("BatchInstanceNorm2d, x (N, C, H, W): a mixture of two sets, batch: one")
    assert "the share rho, and values normalised over the instance have the rest." in text
    assert "inference takes running statistics instead." in text
    assert "does not depend on the other" not in text, "which holds for a part, not for the whole"
    assert "a mixture of three sets" in str(build("SwitchableNorm2d")[1])
    untracked = seqnorm.SwitchableNorm2d(4, track_running_stats=False)
    assert "in inference too, for there are no running" in str(statistics_set(untracked))


@names
def test_the_mini_batch_may_be_that_of_all_processes(name: str) -> None:
    norm, _ = build(name)
    said = "The mini-batch is that of all processes."
    assert said not in str(statistics_set(norm))
    seqnorm.convert_sync_batchnorm(norm)
    assert said in str(statistics_set(norm))
    conditional = seqnorm.convert_sync_batchnorm(seqnorm.ConditionalBatchNorm2d(4, 3))
    text = str(statistics_set(conditional))
    assert text.endswith(f"{said} Gain and bias: those of one of 3 classes.")


@names
def test_the_picture_has_a_panel_for_each(name: str) -> None:
    _, sets = build(name)
    svg = sets.svg(examples=2, channels=3, positions=2)
    root = ElementTree.fromstring(svg)
    assert root[0].text == name
    assert root[1].text == str(sets)
    lines = [text.text for text in root.iter(f"{SVG}text")]
    assert [line for line in lines if line in PARTS[name]] == PARTS[name]
    assert "no other example matters" not in svg
    dark = sum(
        p.get("fill") == drawing.OWN and p.get("stroke") == drawing.OWN_EDGE
        for p in root.iter(f"{SVG}polygon")
    )
    shape, element = (2, 3, 2, 2), (0, 1, 1, 1)
    assert dark == sum(int(of.mask(shape, element).sum()) for of in sets.values())
    assert len(list(root.iter(f"{SVG}ellipse"))) == len(sets)
    assert sets._repr_svg_() == sets.svg()


def test_a_derived_norm_with_a_forward_of_its_own_is_refused() -> None:
    class Activated(seqnorm.SwitchableNorm2d):
        def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(input, mask).relu()

    with pytest.raises(TypeError, match="Activated derives from a norm but has a forward"):
        statistics_set(Activated(4))
    with pytest.raises(TypeError, match=r"ask for one of them.*they are 0"):
        statistics_set(nn.Sequential(seqnorm.SwitchableNorm2d(4)))
    with pytest.raises(ValueError, match="lies outside of shape"):
        build("SwitchableNorm2d")[1].mask(SHAPE, (3, 0, 0, 0))
