"""The picture of a set is well-formed and readable, and shows the elements of the mask."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import seqnorm
from seqnorm.nn.statistics_sets import StatisticsSet, drawing, statistics_set

SVG = "{http://www.w3.org/2000/svg}"
LAYERS: dict[str, nn.Module] = {
    "batch": nn.BatchNorm2d(64),
    "volumes": nn.BatchNorm3d(64),
    "signals": nn.BatchNorm1d(64),
    "instance": seqnorm.InstanceNorm2d(64),
    "positions": seqnorm.LayerNorm2d(64),
    "32 groups": nn.GroupNorm(32, 64),
    "4 groups": nn.GroupNorm(4, 64),
    "one group": nn.GroupNorm(1, 64),
    "conditional": seqnorm.ConditionalInstanceNorm2d(64, 8),
    "adaptive": seqnorm.AdaptiveInstanceNorm2d(),
    "of classes": seqnorm.ConditionalBatchNorm2d(64, 8),
    "tokens": nn.LayerNorm(64),
    "layer": seqnorm.LayerNorm(64, layout="NTC"),
    "rms": seqnorm.RMSNorm(64, layout="NCT"),
    "groups of sequences": seqnorm.GroupNorm(32, 64, layout="NTC"),
    "instance of sequences": seqnorm.InstanceNorm(64, layout="NTC"),
    "pooled": seqnorm.BatchNorm(64, layout="NTC"),
    "per step": seqnorm.BatchNorm(64, max_steps=9, layout="NTC"),
}


def read(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def tops(root: ElementTree.Element, fill: str, edge: str) -> int:
    """Return elements drawn in one colour; sides have no edge."""
    found = root.iter(f"{SVG}polygon")
    return sum(p.get("fill") == fill and p.get("stroke") == edge for p in found)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_an_image_that_stands_by_itself(name: str) -> None:
    of = statistics_set(LAYERS[name])
    root = read(of.svg())
    assert of._repr_svg_() == of.svg()
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert [child.tag.removeprefix(SVG) for child in root][:3] == ["title", "desc", "rect"]
    title, description, ground = root[0], root[1], root[2]
    assert title.text == type(LAYERS[name]).__name__
    assert description.text == str(of)
    assert ground.attrib == {
        "width": str(int(width)),
        "height": str(int(height)),
        "fill": "#ffffff",
    }
    assert root.get("role") == "img"
    assert "id=" not in of.svg(), "two of them may stand in one page"
    for text in root.iter(f"{SVG}text"):
        size = float(text.get("font-size", root.get("font-size", "0")))
        assert size * 320 / width >= 12, "readable at 320 pixels"
        assert 0 < float(text.get("y", "nan")) < height - 4
        x, long = float(text.get("x", "nan")), 0.53 * size * len(text.text or "")
        if text.get("transform") is None:
            left = {None: x, "middle": x - long / 2, "end": x - long}[text.get("text-anchor")]
            assert left > 0, text.text
            assert left + long < width + 1, text.text
    for polygon in root.iter(f"{SVG}polygon"):
        for point in polygon.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 < x < width
            assert 0 < y < height


@pytest.mark.parametrize("name", LAYERS)
def test_it_shows_the_mask(name: str) -> None:
    of = statistics_set(LAYERS[name])
    lengths = {"lengths": (3, 1, 4, 0)} if "T" in of.axes else {}
    sizes = {"channels": 64, **lengths} if of.groups else {"channels": 3, **lengths}
    panel = of.svg(**sizes)
    root = read(panel)
    channels = sizes["channels"]
    size = {"N": 4 if lengths else 3, "C": channels, "T": 4, "L": 5, "D": 2, "H": 3, "W": 3}
    at = {"N": 0, "C": 1, "T": 1, "L": 1, "D": 0, "H": 1, "W": 1}
    if "D" in of.axes:
        size["H"], at["H"] = 2, 0
    shape = [size[axis] for axis in of.axes]
    mask = of.mask(shape, [at[axis] for axis in of.axes], lengths.get("lengths"))
    valid = of.valid(shape, lengths.get("lengths"))
    assert tops(root, drawing.OWN, drawing.OWN_EDGE) == int(mask.sum())
    assert tops(root, drawing.OTHER, drawing.OTHER_EDGE) == int((valid & ~mask).sum())
    assert tops(root, "none", drawing.ABSENT) == (3 if lengths else 0)
    assert len(list(root.iter(f"{SVG}ellipse"))) == 1


def test_the_place_of_an_element() -> None:
    """Channels of an image of 2 channels and 1 x 2 positions are stacked, with W to the right."""
    of = StatisticsSet("none", ("N", "C", "H", "W"), ())
    root = read(of.svg(examples=2, channels=3, positions=2))
    cells = [p for p in root.iter(f"{SVG}polygon") if p.get("stroke") is not None]
    dark = [p.get("fill") == drawing.OWN for p in cells]
    assert len(dark) == 2 * 3 * 2 * 2
    # Planes are ordered by channels, then examples, then rows from the back, which is row 0 of H.
    drawn = torch.tensor(dark).reshape(3, 2, 2, 2)
    assert drawn.nonzero().tolist() == [[1, 0, 1, 1]]
    lefts = [min(float(q.split(",")[0]) for q in p.get("points", "").split()) for p in cells]
    downs = [max(float(q.split(",")[1]) for q in p.get("points", "").split()) for p in cells]
    x, y = torch.tensor(lefts).reshape(3, 2, 2, 2), torch.tensor(downs).reshape(3, 2, 2, 2)
    assert (x[:, 1] > x[:, 0]).all(), "examples stand side by side"
    assert (x[..., 1] > x[..., 0]).all(), "W goes to the right"
    assert (y[:, :, 1] > y[:, :, 0]).all(), "H comes to the front"
    assert all(bool((after > before).all()) for before, after in zip(y, y[1:]))


def words_of(svg: str) -> str:
    return " ".join("".join(read(svg).itertext()).split())


def test_few_of_many_groups_are_drawn_and_it_says_so() -> None:
    for groups in (32, 4):
        of = statistics_set(nn.GroupNorm(groups, 64))
        note = f"Drawn: 4 channels in 2 groups, not 64 in {groups}."
        assert note in words_of(of.svg())
        assert tops(read(of.svg()), drawing.OWN, drawing.OWN_EDGE) == 2 * 9
    assert "Drawn: 4 channels in 2 groups, not 64 in 2." in words_of(
        statistics_set(nn.GroupNorm(2, 64)).svg()
    )
    assert "Drawn" not in statistics_set(nn.GroupNorm(3, 6)).svg()
    whole = statistics_set(nn.GroupNorm(32, 64)).svg(channels=64)
    assert "Drawn" not in whole
    assert tops(read(whole), drawing.OWN, drawing.OWN_EDGE) == 2 * 9


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", "LiGRU", "IndRNN", "SLSTM"])
def test_the_sites_of_every_preset(cell: str) -> None:
    options = {"num_heads": 2} if cell == "SLSTM" else {}
    for schemes in seqnorm.PRESETS.values():
        if cell in schemes:
            layer = getattr(seqnorm, cell)(4, 6, norm=schemes[cell], **options)
            sets = statistics_set(layer)
            text = " ".join(read(sets.svg()).itertext())
            for site in sets:
                assert re.search(rf"\b{site}: ", text), site
            panels = {(of.words, of.channels, of.per_step) for of in sets.values()}
            assert len(list(read(sets.svg()).iter(f"{SVG}ellipse"))) == len(panels)
            assert sets._repr_svg_() == sets.svg()


def test_gates_are_named_and_parted() -> None:
    root = read(statistics_set(seqnorm.LSTM(4, 6, norm="di_engine")).svg(lengths=(2, 1)))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[words.index("2 steps") + 1 :][:2] == ["sequence 2", "1 step"]
    assert [word for word in words if word in ("i", "f", "g", "o")] == ["i", "f", "g", "o"]
    assert tops(root, drawing.OWN, drawing.OWN_EDGE) == 8, "two units of each gate"
    apart = read(statistics_set(seqnorm.LSTM(4, 6, norm="tf_contrib"))["sum"].svg())
    assert tops(apart, drawing.OWN, drawing.OWN_EDGE) == 2


def test_names_are_escaped() -> None:
    of = StatisticsSet('<b> & "c"', ("N", "C", "T"), ("C",), remark="1 < 2 & 3")
    root = read(of.svg())
    assert root[0].text == '<b> & "c"'
    assert (root[1].text or "").endswith("1 < 2 & 3")


def test_a_long_name_stays_within_the_picture() -> None:
    of = StatisticsSet("AVeryLongNameOfANormThatSomebodyWrote2d", ("N", "C", "H", "W"), ("C",))
    title = next(read(of.svg()).iter(f"{SVG}text"))
    assert 16 + 0.69 * float(title.get("font-size", "nan")) * len(of.name) <= 405


def test_sizes_that_cannot_be_drawn() -> None:
    images, sequences = (
        statistics_set(nn.BatchNorm2d(4)),
        statistics_set(seqnorm.LayerNorm(4, layout="NTC")),
    )
    with pytest.raises(ValueError, match="leave lengths out, and write examples=3"):
        images.svg(lengths=(3, 2))
    with pytest.raises(ValueError, match=r"leave examples out, and write lengths=\(5, 3, 2\)"):
        sequences.svg(examples=2)
    with pytest.raises(ValueError, match="positions must be at least 1, got 0"):
        images.svg(positions=0)
    for lengths in ((), (0, 0)):
        with pytest.raises(ValueError, match="lengths must hold a sequence with a step"):
            sequences.svg(lengths=lengths)
    with pytest.raises(ValueError, match="which 3 channels cannot keep: give a multiple of 2"):
        statistics_set(nn.GroupNorm(2, 4)).svg(channels=3)
    gates = statistics_set(seqnorm.LSTM(3, 4, norm="layer"))["input"]
    with pytest.raises(ValueError, match="has 4 gates, so give a multiple"):
        gates.svg(channels=6)
