"""Weights of every source, compared with the originals' own equations in their own layout.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from originals import Weights, cooijmans, fixed
from peers import HEADS, PEERS, Peer, run_ours
from publications import B, T
from tolerances import REORDERED, SUMS, assert_close, assert_equal
from torch import Tensor, sigmoid, tanh

import seqnorm
from seqnorm.weights import names_of_sources
from seqnorm.weights.layout import source_named

STEPWISE = [peer for peer in PEERS if peer.step is not None]


def the(source: str, norm: Any) -> Peer:
    (found,) = (peer for peer in PEERS if (peer.source, peer.norm) == (source, norm))
    return found


def test_every_layout_has_an_original() -> None:
    there = sorted(
        (name, layout.cell, str(layout.norm))
        for name in names_of_sources()
        for layout in source_named(name).layouts
    )
    assert sorted((peer.source, peer.cell, str(peer.norm)) for peer in PEERS) == there


@pytest.mark.parametrize("peer", STEPWISE, ids=lambda peer: peer.name)
def test_a_loaded_layer_computes_the_same(peer: Peer) -> None:
    layer, w = peer.layer(), peer.weights()
    seqnorm.load_weights(layer, w, peer.source)
    x, states = peer.draw()
    for wanted, got in zip(peer.run(w, x, states), run_ours(layer, x, states)):
        assert_close(got, wanted, REORDERED)


@pytest.mark.parametrize("peer", STEPWISE, ids=lambda peer: peer.name)
def test_a_loaded_cell_computes_the_same(peer: Peer) -> None:
    """Take the weights as numpy's arrays, and compute a single step."""
    w = peer.weights()
    cell = peer.layer(cls=f"{peer.cell}Cell")
    seqnorm.load_weights(cell, {name: value.numpy() for name, value in w.items()}, peer.source)
    x, states = peer.draw()
    found = cell(x[0], states[0] if len(states) == 1 else tuple(states))
    wanted = peer.run(w, x[:1], states)[1:]
    for expected, got in zip(wanted, (found,) if len(states) == 1 else found):
        assert_close(got, expected, REORDERED)


# nnx's LSTM has two forms, and to_weights writes the joint one.
@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if not peer.name.endswith("-gates")], ids=lambda peer: peer.name
)
def test_weights_come_back(peer: Peer) -> None:
    w = peer.weights()
    layer = peer.layer(cls=f"{peer.cell}Cell") if peer.cell != "SLSTM" else peer.layer()
    seqnorm.load_weights(layer, w, peer.source)
    back = seqnorm.to_weights(layer, peer.source)
    assert back.keys() == w.keys()
    layouts = source_named(peer.source).layouts_for(layer, peer.source)
    shifted = any(part.shift for part in layouts[0].tensors.values())
    for name, value in w.items():
        if shifted:  # a number that is added and subtracted again is rounded
            assert_close(back[name], value, SUMS, name)
        else:
            assert_equal(back[name], value, name)


def test_cooijmans_in_training_with_the_statistics_of_the_batch() -> None:
    peer = the("cooijmans", "cooijmans2016")
    w, layer = peer.weights(), peer.layer().train()
    seqnorm.load_weights(layer, w, "cooijmans")
    x, states = peer.draw()
    for wanted, got in zip(cooijmans(w, x, *states), run_ours(layer, x, states)):
        assert_close(got, wanted, REORDERED)


def jihunchoi(w: Weights, x: Tensor, states: list[Tensor], last: int) -> list[Tensor]:
    """Compute BNLSTMCell in inference; steps after ``last`` have its statistics."""
    h, c = states
    outputs = []
    for t, x_t in enumerate(x):
        at = f"_{min(t, last)}"
        a = fixed(w, "bn_hh", h @ w["weight_hh"], at) + fixed(w, "bn_ih", x_t @ w["weight_ih"], at)
        f, i, o, g = (a + w["bias"]).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(fixed(w, "bn_c", c, at))
        outputs.append(h)
    return [torch.stack(outputs), h, c]


def test_jihunchoi_with_the_statistics_of_every_step() -> None:
    """Compute one step more than there are statistics for."""
    peer = the("jihunchoi", "jihunchoi")
    w, layer = peer.weights(), peer.layer()
    seqnorm.load_weights(layer, w, "jihunchoi")
    x, states = peer.draw()
    for wanted, got in zip(jihunchoi(w, x, states, T - 2), run_ours(layer, x, states)):
        assert_close(got, wanted, REORDERED)


@pytest.mark.parametrize("backend", ["vanilla", "cuda"])
def test_xlstm_with_blocks_and_heads(backend: str) -> None:
    peer = the("xlstm", "xlstm")
    w, layer = peer.weights(), peer.layer()
    given = dict(w)
    kernel, bias = w["slstm_cell._recurrent_kernel_"], w["slstm_cell._bias_"]
    H = len(w["group_norm.weight"])
    P = H // HEADS
    if backend == "cuda":  # as the page of weights says
        stored = kernel.mT
        of_heads = bias.unflatten(0, (4, HEADS, -1)).transpose(0, 1).flatten()
        given["slstm_cell._recurrent_kernel_"] = stored.mT
        turned = of_heads.unflatten(0, (HEADS, 4, -1)).transpose(0, 1).flatten()
        given["slstm_cell._bias_"] = turned
    seqnorm.load_weights(layer, given, "xlstm")
    x = torch.randn(T, B, H, dtype=torch.float64)

    def headwise(name: str, x_t: Tensor) -> Tensor:
        parts = x_t.unflatten(-1, (HEADS, -1))
        return torch.einsum("bhd,hod->bho", parts, w[f"{name}.weight"]).flatten(1)

    y = c = n = m = torch.zeros(B, H, dtype=torch.float64)
    outputs = []
    for x_t in x:
        # The projection named fgate comes first, where the cell reads its input gate.
        given_x = torch.cat([headwise(f"{name}gate", x_t) for name in "fizo"], 1)
        of_heads = y.unflatten(1, (HEADS, 1, P)).matmul(kernel.transpose(1, 2))
        product = of_heads.unflatten(-1, (4, P)).squeeze(2).transpose(1, 2).flatten(1)
        i, f, z, o = (given_x + product + bias).chunk(4, 1)
        kept = F.logsigmoid(f) + m
        largest = i if not n.any() else torch.maximum(i, kept)
        write, keep = torch.exp(i - largest), torch.exp(kept - largest)
        c, n, m = keep * c + write * tanh(z), keep * n + write, largest
        y = sigmoid(o) * c / n
        outputs.append(y)
    weight = 1.0 + w["group_norm.weight"]
    flat = torch.stack(outputs).flatten(0, 1)
    wanted = F.group_norm(flat, HEADS, weight, None, 1e-5).unflatten(0, (T, B))
    output, last = layer(x)
    assert_close(output, wanted, REORDERED)
    assert_close(last[0][0], y, REORDERED)


@pytest.mark.parametrize("norm", ["haste", None])
@pytest.mark.parametrize("source", ["haste", "haste_tf"])
def test_zoneout_of_haste_holds_h_alone(source: str, norm: str | None) -> None:
    """Compare in inference, where zoneout takes the expectation."""
    (peer,) = (p for p in STEPWISE if (p.source, p.cell, p.norm) == (source, "LSTM", norm))
    w, p = peer.weights(), 0.3
    layer = peer.layer(zoneout=(p, 0))
    seqnorm.load_weights(layer, w, source)

    def held(w: Weights, x: Tensor, state: Any) -> Any:
        assert peer.step is not None
        h, c = peer.step(w, x, state)
        return p * state[0] + (1 - p) * h, c

    x, states = peer.draw()
    for wanted, got in zip(peer._replace(step=held).run(w, x, states), run_ours(layer, x, states)):
        assert_close(got, wanted, REORDERED)
    both = peer.layer(zoneout=p)
    with pytest.raises(ValueError, match=rf"holds back h alone.*zoneout=\({p}, 0\)"):
        seqnorm.load_weights(both, w, source)
