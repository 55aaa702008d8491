"""LayerNorm LSTMs in plain PyTorch, which ``seqnorm.LSTM(norm="layer")`` replaces.

One layer in one direction, float32. The same code runs eagerly and as TorchScript. Cell and loop
are divided as in PyTorch's benchmarks/fastrnns, with a matrix product of the input at every step.

Axes: T steps, B sequences, I inputs, H units.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seqnorm


class LayerNormCell(nn.Module):
    """One step: a = N(W_ih x) + N(W_hh h) + b, c = f c + i g, h = o tanh(N(c)).

    The parameters have the names of those in ``seqnorm.LSTM``, so that it can load its state dict.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        gates = 4 * hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(gates, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(gates, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(gates))
        self.norm_ih_l0 = nn.LayerNorm(gates)
        self.norm_hh_l0 = nn.LayerNorm(gates)
        self.norm_cell_l0 = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, I), h (B, H) and c (B, H) to the next h and c."""
        gates = self.norm_ih_l0(F.linear(x, self.weight_ih_l0))
        gates = gates + self.norm_hh_l0(F.linear(h, self.weight_hh_l0)) + self.bias_ih_l0
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.norm_cell_l0(c)), c


class LayerNormLSTM(nn.Module):
    """The loop over the time steps."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = LayerNormCell(input_size, hidden_size)

    def forward(self, input: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map x (T, B, I) to outputs (T, B, H), and h and c (B, H) after the last step."""
        steps = input.unbind(0)
        h = torch.zeros(input.size(1), self.hidden_size, dtype=input.dtype)
        c = torch.zeros(input.size(1), self.hidden_size, dtype=input.dtype)
        outputs: list[Tensor] = []
        for t in range(len(steps)):
            h, c = self.cell(steps[t], h, c)
            outputs += [h]
        return torch.stack(outputs), (h, c)


def eager(layer: seqnorm.LSTM) -> nn.Module:
    """Return the plain loop with the weights of a layer."""
    loop = LayerNormLSTM(layer.input_size, layer.hidden_size)
    loop.cell.load_state_dict(layer.state_dict())
    return loop


def scripted(layer: seqnorm.LSTM) -> nn.Module:
    """Return the same compiled by TorchScript, which torch has deprecated but still supports."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.script", DeprecationWarning)
        module: nn.Module = torch.jit.script(eager(layer))
    return module
