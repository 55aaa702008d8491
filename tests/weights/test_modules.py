"""Modules that are built as their authors build them, so that torch makes the names.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import torch
from publications import B, I, T
from tolerances import REORDERED, assert_close
from torch import Tensor, nn

import seqnorm

H = 4


class OverLastDim(nn.Module):
    """NeMo's module that applies another to all frames."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return found


class NeMoLayer(nn.Module):
    """A layer of BNRNNSum: torch's LSTM, without biases behind a norm."""

    def __init__(self, inputs: int, norm: bool) -> None:
        super().__init__()
        if norm:
            self.bn = OverLastDim(nn.BatchNorm1d(inputs))
        self.rnn = nn.LSTM(inputs, H, bias=not norm)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.bn(x) if hasattr(self, "bn") else x)[0]
        return found


class BNRNNSum(nn.Module):
    """A stack of such layers, of which the first may be without a norm."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([NeMoLayer(I, first), NeMoLayer(H, True)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def trained(first: bool) -> BNRNNSum:
    """Return a stack with random weights and the statistics of some batches, in inference."""
    stack = BNRNNSum(first).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(0.0, 0.5)
        for _ in range(3):
            stack(torch.randn(T, B, I, dtype=torch.float64))
    return stack.eval()


def test_nemo_with_a_norm_in_every_layer() -> None:
    stack = trained(True)
    assert "layers.1.bn.module.num_batches_tracked" in stack.state_dict()
    lstm = seqnorm.LSTM(I, H, 2, norm="nemo_batch", dtype=torch.float64).eval()
    seqnorm.load_weights(lstm, stack.state_dict(), "nemo")
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_close(lstm(x)[0], stack(x), REORDERED)
    fresh = BNRNNSum(True).double().eval()
    fresh.load_state_dict(seqnorm.to_weights(lstm, "nemo"))
    assert_close(fresh(x), stack(x), REORDERED)


def test_nemo_without_a_norm_in_the_first_layer() -> None:
    """Load the two parts by the lines of the page."""
    stack = trained(False)
    first = seqnorm.LSTM(I, H, dtype=torch.float64).eval()
    second = seqnorm.LSTM(H, H, norm="nemo_batch", dtype=torch.float64).eval()
    seqnorm.load_weights(first, stack.state_dict(), "torch", prefix="layers.0.rnn.")
    seqnorm.load_weights(second, stack.state_dict(), "nemo", prefix="layers.1.")
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_close(second(first(x)[0])[0], stack(x), REORDERED)


class NormedCell(nn.Module):
    """The parameters of fastrnns' LayerNormLSTMCell, and a step."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(4 * H, inputs))
        self.weight_hh = nn.Parameter(torch.randn(4 * H, H))
        self.layernorm_i = nn.LayerNorm(4 * H)
        self.layernorm_h = nn.LayerNorm(4 * H)
        self.layernorm_c = nn.LayerNorm(H)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a = self.layernorm_i(x @ self.weight_ih.mT) + self.layernorm_h(h @ self.weight_hh.mT)
        i, f, g, o = a.chunk(4, 1)
        c = self.layernorm_c(f.sigmoid() * c + i.sigmoid() * g.tanh())
        return o.sigmoid() * c.tanh(), c


class Way(nn.Module):
    """A layer in one direction; the order of the steps is the caller's."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.cell = NormedCell(inputs)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], H)
        outputs = []
        for x_t in x:
            h, c = self.cell(x_t, h, c)
            outputs.append(h)
        return torch.stack(outputs)


class BothWays(nn.Module):
    """A bidirectional layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.directions = nn.ModuleList([Way(inputs), Way(inputs)])

    def forward(self, x: Tensor) -> Tensor:
        there, back = self.directions
        return torch.cat([there(x), back(x.flip(0)).flip(0)], -1)


def test_fastrnns_with_two_layers_in_both_directions() -> None:
    stack = nn.Module()
    stack.layers = nn.ModuleList([BothWays(I), BothWays(2 * H)])
    stack.double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_()
    lstm = seqnorm.LSTM(I, H, 2, bidirectional=True, norm="fastrnns", dtype=torch.float64)
    seqnorm.load_weights(lstm, stack.state_dict(), "fastrnns")
    x = torch.randn(T, B, I, dtype=torch.float64)
    first, second = stack.layers
    assert_close(lstm(x)[0], second(first(x)), REORDERED)
    stack.load_state_dict(seqnorm.to_weights(lstm, "fastrnns"))
