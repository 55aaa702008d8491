"""The presets with BatchNorm over all valid frames compared with modules of authors and torch.

As in test_published.py, no function here reads a scheme. The sequences are a list of different
lengths, so there is no padding.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hidden_states import as_hx, parts_of
from publications import EPS, H, I, N, Parts, compare_with, layer_and_parts
from tolerances import VALUES, assert_close
from torch import Tensor, nn, relu, sigmoid
from torch.nn.utils.rnn import pad_sequence

Sequences = list[Tensor]
RAGGED, EQUAL = (5, 2, 1, 4), (4, 4, 4)


class BatchNorm1d:
    """torch.nn.BatchNorm1d on all frames of all sequences, with a corrected running average.

    torch's average starts from 0 and 1; here the first batch counts fully, and a later one by its
    share of all frames until that falls below the momentum.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.training = True
        self.count = 0
        self.mean: Tensor | None = None
        self.var: Tensor | None = None

    def __call__(self, sequences: Sequences, gain: Tensor | None, bias: Tensor | None) -> Sequences:
        frames = torch.cat(sequences)
        if self.training:
            mean, var = frames.detach().mean(0), frames.detach().var(0, unbiased=True)
            self.count += len(frames)
            share = max(len(frames) / self.count, self.momentum)
            if self.mean is None or self.var is None:
                self.mean, self.var = mean, var
            else:
                self.mean = (1 - share) * self.mean + share * mean
                self.var = (1 - share) * self.var + share * var
            done = F.batch_norm(frames, None, None, gain, bias, training=True, eps=EPS)
        else:
            done = F.batch_norm(frames, self.mean, self.var, gain, bias, training=False, eps=EPS)
        return list(done.split([len(sequence) for sequence in sequences]))


def by_sequences(run: Any, sequences: Sequences, states: list[Tensor]) -> tuple[Tensor, ...]:
    """Return padded outputs and final states of ``run(x (T, .), state)`` for each sequence."""
    outputs, finals = zip(
        *(run(x, tuple(s[b] for s in states)) for b, x in enumerate(sequences)),
    )
    return (pad_sequence(list(outputs)), *(torch.stack(parts) for parts in zip(*finals)))


def by_layer(layer: Any, sequences: Sequences, states: list[Tensor]) -> tuple[Tensor, ...]:
    x, lengths = pad_sequence(sequences, padding_value=100.0), [len(s) for s in sequences]
    output, last = layer(x, as_hx([state[None] for state in states]), lengths)
    return (output, *(part[0] for part in parts_of(last)))


def draw(lengths: tuple[int, ...], parts: int) -> tuple[Sequences, list[Tensor]]:
    sequences = [1.0 + 2.0 * torch.randn(n, I).double() for n in lengths]
    return sequences, [torch.randn(len(lengths), H).double() for _ in range(parts)]


def check_table(table: Any, bn: BatchNorm1d) -> None:
    assert bn.mean is not None
    assert bn.var is not None
    assert table.count.tolist() == [bn.count]
    assert_close(table.running_mean[0], bn.mean, VALUES, "running mean")
    assert_close(table.running_var[0], bn.var, VALUES, "running variance")


def ligru(
    p: Parts, bn: BatchNorm1d, sequences: Sequences, states: list[Tensor], stable: bool
) -> tuple[Tensor, ...]:
    """SpeechBrain's LiGRU_Layer with BatchNorm1d(2H, momentum=0.05) of w; ``stable``: SLiGRU_Layer,
    with a LayerNorm without affine of the recurrent product."""
    w = bn([x @ p.W("az").T for x in sequences], p.gain("ih", "az"), p.beta("ih", "az"))

    def run(w: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (ht,) = state
        hiddens = []
        for w_t in w:
            recurrent = p.U("az") @ ht
            gates = w_t + (N(recurrent, 1.0) if stable else recurrent)
            at, zt = gates.chunk(2)
            zt = sigmoid(zt)
            ht = zt * ht + (1 - zt) * relu(at)
            hiddens.append(ht)
        return torch.stack(hiddens), (ht,)

    return by_sequences(run, w, states)


TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def nemo(
    cell: str, p: Parts, bn: BatchNorm1d, sequences: Sequences, states: list[Tensor]
) -> tuple[Tensor, ...]:
    """BNRNNSum's RNNLayer: BatchNorm1d(input_size) of x, then torch's layer without biases."""
    rnn = TORCH[cell](sequences[0].shape[1], H, bias=False).double()
    weights = {name: p.values[name] for name in ("weight_ih_l0", "weight_hh_l0")}
    frames = bn(sequences, p.values["norm_frame_l0.weight"], p.values["norm_frame_l0.bias"])

    def run(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        hx = as_hx([part[None] for part in state])
        output, last = torch.func.functional_call(rnn, weights, (x, hx))
        return output, tuple(part[0] for part in parts_of(last))

    return by_sequences(run, frames, states)


def answer(
    name: str, cell: str, p: Parts, bn: BatchNorm1d, sequences: Sequences, states: list[Tensor]
) -> tuple[Tensor, ...]:
    if cell == "LiGRU":
        return ligru(p, bn, sequences, states, stable=name == "moumen2023")
    return nemo(cell, p, bn, sequences, states)


CASES = [("ravanelli2018", "LiGRU", "ih", 0.05), ("moumen2023", "LiGRU", "ih", 0.05)]
CASES += [("nemo_batch", cell, "frame", 0.1) for cell in TORCH]


@pytest.mark.parametrize("randomised", [True, False], ids=["random", "initial"])
@pytest.mark.parametrize(("name", "cell", "site", "momentum"), CASES)
def test_frames(name: str, cell: str, site: str, momentum: float, randomised: bool) -> None:
    """Compare few and many training calls, then inference with their statistics."""
    layer, parts = layer_and_parts(name, cell, randomised)
    table = getattr(layer, f"norm_{site}_l0").table
    bn = BatchNorm1d(momentum)
    count = 2 if cell == "LSTM" else 1
    for call in range(25):
        sequences, states = draw((RAGGED, EQUAL)[call % 2], count)
        wanted = answer(name, cell, parts, bn, sequences, states)
        got = by_layer(layer.train(), sequences, states)
        if call < 2:
            compare_with(layer, wanted, got)
        check_table(table, bn)
    bn.training = False
    sequences, states = draw((6, 1, 3), count)
    wanted = answer(name, cell, parts, bn, sequences, states)
    compare_with(layer, wanted, by_layer(layer.eval(), sequences, states))


@pytest.mark.parametrize("cell", TORCH)
def test_the_norm_of_a_deeper_layer(cell: str) -> None:
    """BNRNNSum stacks such layers: the second BatchNorm normalises the outputs of the first."""
    deep, _ = layer_and_parts("nemo_batch", cell, True, num_layers=2)
    sequences, _ = draw(RAGGED, 0)
    states = [torch.zeros(len(RAGGED), H).double()] * (2 if cell == "LSTM" else 1)
    bns: list[BatchNorm1d] = []
    below = sequences
    for number in range(2):
        own = {
            name.replace(f"_l{number}", "_l0"): value
            for name, value in deep.named_parameters()
            if f"_l{number}" in name
        }
        bns.append(BatchNorm1d(0.1))
        output, *_ = nemo(cell, Parts(cell, own), bns[-1], below, states)
        below = [output[:n, b] for b, n in enumerate(RAGGED)]
    got, _ = deep(pad_sequence(sequences), None, RAGGED)
    compare_with(deep, (pad_sequence(below),), (got,))
    for number, bn in enumerate(bns):
        check_table(getattr(deep, f"norm_frame_l{number}").table, bn)
