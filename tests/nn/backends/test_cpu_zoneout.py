"""Zoneout in the kernels: the same units stay as in the definition, with the same gradients.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from beside_reference import (
    Call,
    assert_equals_reference,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    ragged,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, assert_close

import seqnorm

pytestmark = needs_kernels
I, H = 5, 21  # noqa: E741  the axes' letters
TAKEN = taken()
CHANCES = {"LSTM": [0.3, (0.4, 0.0), (0.0, 0.2), (1.0, 0.5)], "GRU": [0.3, 1.0]}
CHANCES |= dict.fromkeys(("LiGRU", "RNN", "IndRNN", "SLSTM"), CHANCES["GRU"])
EVERY = [(name, zoneout) for name, (cell, _) in TAKEN.items() for zoneout in CHANCES[cell]]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "zoneout"), EVERY)
def test_every_norm(
    name: str, zoneout: float, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training draws units and inference takes their expectation, in both directions."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H, num_layers=2, bidirectional=True, zoneout=zoneout)
    layer.train(training)
    call = Call.draw(layer, ragged(9, 5))
    expected = outcome(layer, call, "reference")
    plain = outcome(build(cell, norm, I, H, num_layers=2, bidirectional=True), call)
    assert not torch.equal(plain["output"], expected["output"])
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "name",
    [f"{cell} {norm}" for cell in CHANCES for norm in ("layer", "batch")],
)
def test_threads(name: str, number: int, threads: Callable[[int], None]) -> None:
    """Threads divide rows and units, in both precisions."""
    threads(number)
    cell, norm = TAKEN[name]
    for hidden in (7, 70):
        layer = build(cell, norm, I, hidden, zoneout=0.4)
        assert_equals_reference(layer, Call.draw(layer, [4] * 6 + [2, 3, 4]))


@pytest.mark.parametrize(
    "name",
    [
        *("LSTM layer", "LSTM cell alone", "GRU layer", "LiGRU layer", "RNN kinds", "IndRNN sum"),
        "SLSTM None",
    ],
)
def test_gradients_of_gradients(name: str) -> None:
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H, zoneout=0.4)
    call = Call.draw(layer, [3, 1, 3])
    found = []
    for backend in ("reference", "cpu"):
        torch.manual_seed(1)
        leaves = list(layer.parameters())
        with seqnorm.use_backend(backend):
            output, last = layer(call.input, as_hx(call.state), lengths=call.lengths)
            loss = output.sin().sum() + sum(part.cos().sum() for part in parts_of(last))
            grads = torch.autograd.grad(loss, leaves, create_graph=True)
            penalty = sum(grad.square().sum() for grad in grads)
            found.append(torch.autograd.grad(penalty, leaves))
    for expected, actual in zip(*found):
        assert_close(actual, expected, GRADIENTS)


def test_draws_are_the_same_whoever_computes() -> None:
    """A seed gives the same units on every backend, also with weight drop and dropout."""
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.2}
    layer = build("LSTM", "layer", I, H, zoneout=(0.3, 0.2), recurrent_dropout=0.1, **options)
    call = Call.draw(layer, [4, 2, 4])
    assert_same(outcome(layer, call), outcome(layer, call, "reference"))
