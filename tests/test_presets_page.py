"""The page on published cells names every preset, and the layouts of weights that are known."""

from __future__ import annotations

import re

import pytest
from pages import DOCS, read, rows
from peers import PEERS, Peer

import seqnorm
from seqnorm.nn.recurrence.step import STEPS
from seqnorm.weights.layout import Layout, source_named

PAGE = DOCS / "presets.md"
TABLE = rows(read(PAGE).split("## The table")[1].split("## Bringing")[0])
CELLS = ("LSTM", "GRU", "RNN", "LiGRU", "IndRNN", "SLSTM")
PUBLISHED = {(row[0].strip("`"), row[1]): row for row in TABLE if row[5] != "-"}
# Sources by the presets whose original they are; some others have the same cells.
NORMED = [peer for peer in PEERS if isinstance(peer.norm, str)]


def layouts(peer: Peer) -> list[Layout]:
    found = source_named(peer.source).layouts
    return [one for one in found if (one.norm, one.cell) == (peer.norm, peer.cell)]


def test_the_table_names_every_preset_of_every_cell() -> None:
    found = [(row[0].strip("`"), row[1]) for row in TABLE]
    assert len(set(found)) == len(found)
    there = {(name, cell) for cell in CELLS for name in STEPS[cell].presets}
    there |= {(name, cell) for name, cells in seqnorm.PRESETS.items() for cell in cells}
    assert set(found) == {(name, cell) for name, cell in there if cell in CELLS}


def test_weights_of_every_original_can_be_loaded() -> None:
    assert set(PUBLISHED) == {(peer.norm, peer.cell) for peer in NORMED}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_order_of_gates_is_one_of_the_cell(row: list[str]) -> None:
    assert sorted(row[4]) == sorted(STEPS[row[1]].gates)


@pytest.mark.parametrize("peer", NORMED, ids=lambda peer: peer.name)
def test_the_order_of_gates_is_that_of_the_layout(peer: Peer) -> None:
    stacked = PUBLISHED[peer.norm, peer.cell][4]
    # haste for TensorFlow has the cells of haste.
    assert [layout.gates for layout in layouts(peer)] == [stacked]


@pytest.mark.parametrize("name", PUBLISHED, ids="-".join)
def test_matrices_of_the_table_are_those_of_the_original(name: tuple[str, str]) -> None:
    stated = re.findall(r"\([^)]*\)", PUBLISHED[name][5].replace(" + ", "+").replace(", ", ","))
    assert stated
    of_table = {shape.strip("()").replace("heads", "2") for shape in stated}
    (*peers,) = (peer for peer in NORMED if (peer.norm, peer.cell) == name)
    assert any(of_table <= set(peer.shapes.split()[1::2]) for peer in peers), of_table
    transposed = "transposed" in PUBLISHED[name][5]
    for peer in peers:
        tensors = [part for layout in layouts(peer) for part in layout.tensors.values()]
        views = {part.view for part in tensors if "weight_ih" in part.of}
        assert ("transposed" in views) == transposed
