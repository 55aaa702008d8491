"""RNN, Elman's network: the step, its published norms, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Nonlinear, Normalise, State
from ..forms import NonlinearCell, NonlinearLayer
from ..torch_weights import TorchCellWeights, TorchWeights


class RNNStep(Nonlinear):
    """h = f(N(x + h))."""

    gates = "h"
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(sum=Norm("layer"), bias_ih=None),
        "rms": NormScheme(sum=Norm("rms"), bias_ih=None),
        "ba2016": NormScheme(sum=Norm("layer"), bias_ih=None),
        "tfa": NormScheme(sum=Norm("layer"), bias_ih=None, hidden_init="orthogonal"),
        "laurent2016": NormScheme(input=Norm("batch_pooled", bias=None)),
        "nemo_batch": NormScheme(frame=Norm("batch_pooled"), bias_ih=None),
    }

    @property
    def fused(self) -> Any:
        return torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        return (self.activate(norm("sum", x + h)),)


class RNN(NonlinearLayer, TorchWeights[nn.RNN]):
    """``torch.nn.RNN`` (Elman 1990) with normalisation inside the recurrence and with lengths.

    With the terms x = N(W_ih x_t) + b and h = N(W_hh h_(t-1)) + b', W_ih (H, I), W_hh (H, H), and
    f = tanh or ReLU::

        h_t = f(N(x + h))

    ============ ===================================================================================
    ``norm``     equation
    ============ ===================================================================================
    None         torch's RNN
    layer        h_t = f(N(W_x x + W_h h; 1, 0)) (Ba et al. 2016, eq. 4)
    rms          the same with RMSNorm, gain and bias learned
    batch        h_t = f(BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b), statistics of every step
    batch_pooled h_t = f(BN(W_x x; 0.1, -) + W_h h + b), statistics over all valid frames
    ba2016       as "layer"
    tfa          as "layer", W_hh orthogonal (TensorFlow Addons, LayerNormSimpleRNNCell: its bias is
                 that of the norm)
    laurent2016  as "batch_pooled" with gain 1 (Laurent et al. 2016, sequence-wise)
    nemo_batch   h_t = f(W_x BN(x) + W_h h), statistics over all valid frames (NeMo, BNRNNSum, which
                 leaves out the first layer's norm)
    ============ ===================================================================================

    Everything else is as in ``LSTM``; ``zoneout`` is one probability, and there is no proj_size.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class = RNNStep
    torch_class = nn.RNN


class RNNCell(NonlinearCell, TorchCellWeights[nn.RNNCell]):
    """One step of ``seqnorm.RNN``; ``torch.nn.RNNCell`` with ``norm``. See ``LSTMCell``.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class = RNNStep
    torch_class = nn.RNNCell
