"""Initial states that an original learns, among its weights.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from originals import Weights, cooijmans
from peers import PEERS, H
from publications import B, I
from tolerances import REORDERED, assert_close, assert_equal

import seqnorm

(PEER,) = (peer for peer in PEERS if peer.source == "cooijmans")


def weights(inputs: int | None = None) -> Weights:
    """Draw all weights of the original."""
    states = {name: torch.randn(H, dtype=torch.float64) for name in ("h0", "c0")}
    return {**states, **PEER.weights(inputs)}


def learning(*sizes: int, **options: Any) -> Any:
    return PEER.layer(*sizes, learn_initial_state=True, **options)


def test_a_loaded_layer_begins_with_them() -> None:
    w, layer = weights(), learning().train()
    seqnorm.load_weights(layer, w, "cooijmans")
    x, _ = PEER.draw()
    output, (h, c) = layer(x)
    begin = [w[name].expand(B, H) for name in ("h0", "c0")]
    for wanted, got in zip(cooijmans(w, x, *begin), (output, h[0], c[0])):
        assert_close(got, wanted, REORDERED)


def test_a_loaded_cell_begins_with_them() -> None:
    w, cell = weights(), learning(cls="LSTMCell").train()
    seqnorm.load_weights(cell, {name: value.numpy() for name, value in w.items()}, "cooijmans")
    x, _ = PEER.draw()
    begin = [w[name].expand(B, H) for name in ("h0", "c0")]
    for wanted, got in zip(cooijmans(w, x[:1], *begin)[1:], cell(x[0], first_step=0)):
        assert_close(got, wanted, REORDERED)


@pytest.mark.parametrize("cls", ["LSTM", "LSTMCell"])
def test_they_come_back(cls: str) -> None:
    w, layer = weights(), learning(cls=cls)
    seqnorm.load_weights(layer, w, "cooijmans")
    back = seqnorm.to_weights(layer, "cooijmans")
    assert list(back)[:4] == ["h0", "c0", "Wa", "Wx"], "the order of the original"
    assert back.keys() == w.keys()
    for name, value in w.items():
        assert_equal(back[name], value, name)
    back["h0"].zero_()
    assert bool(layer.h_0.any()), "a copy"


def test_each_direction_has_its_own() -> None:
    parts = [weights(), weights(), weights(2 * H), weights(2 * H)]
    layer = learning(I, H, num_layers=2, bidirectional=True)
    seqnorm.load_weights(layer, parts, "cooijmans")
    for name, found in (("h0", layer.h_0), ("c0", layer.c_0)):
        assert_equal(found.detach(), torch.stack([part[name] for part in parts]))


def test_states_without_a_place_and_places_without_a_state() -> None:
    hint = "left over: h0 .*left over: c0 .*learned initial state .* learn_initial_state=True"
    with pytest.raises(ValueError, match=f"(?s){hint}"):
        seqnorm.load_weights(PEER.layer(), weights(), "cooijmans")
    with pytest.raises(ValueError, match=r"(?s)missing: h0 \(4,\)\n  missing: c0 \(4,\)"):
        seqnorm.load_weights(learning(), PEER.weights(), "cooijmans")
