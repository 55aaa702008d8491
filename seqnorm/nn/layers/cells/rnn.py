"""RNN: Elman's cell, its published norms, the layer and the single step.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Nonlinear, Normalise
from ..cell import NonlinearCell
from ..one_state import NonlinearLayer
from ..torch_weights import adopt, adopt_cell, release

_BATCH = Norm("batch", gain=0.1, bias=None)


class RNNStep(Nonlinear):
    """h = f(N(x + h))."""

    name = "RNN"
    gates = "h"
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(sum=Norm("layer"), bias_ih=None),
        "rms": NormScheme(sum=Norm("rms"), bias_ih=None),
        "batch": NormScheme(input=_BATCH, hidden=_BATCH),
        "batch_pooled": NormScheme(input=Norm("batch_pooled", gain=0.1, bias=None)),
        "ba2016": NormScheme(sum=Norm("layer"), bias_ih=None),
        "tfa": NormScheme(sum=Norm("layer"), bias_ih=None, hidden_init="orthogonal"),
        "laurent2016": NormScheme(input=Norm("batch_pooled", bias=None)),
        "nemo_batch": NormScheme(frame=Norm("batch_pooled"), bias_ih=None),
    }

    @property
    def fused(self) -> Any:
        return torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu

    def step(
        self,
        x: Tensor,
        h: Tensor,
        state: tuple[Tensor, ...],
        norm: Normalise,
        scheme: NormScheme | None,
    ) -> tuple[Tensor, ...]:
        return (self.activate(norm("sum", x + h)),)


class RNN(NonlinearLayer):
    """``torch.nn.RNN`` (Elman 1990) with normalisation inside the recurrence, and with lengths.

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

    Everything else is as in ``LSTM``; ``zoneout`` is one probability, there is no proj_size.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    _step = RNNStep

    @classmethod
    def from_torch(
        cls,
        layer: nn.RNN,
        norm: str | NormScheme | None = None,
        *,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> RNN:
        """A layer with the matrices and biases of a torch layer; see ``LSTM.from_torch``."""
        options = {"zoneout": zoneout, "recurrent_dropout": recurrent_dropout}
        return adopt(cls, layer, nn.RNN, norm, **options)

    def to_torch(self) -> nn.RNN:
        """The torch layer that computes the same; see ``LSTM.to_torch``."""
        return release(self, nn.RNN)


class RNNCell(NonlinearCell):
    """One step of ``seqnorm.RNN``; ``torch.nn.RNNCell`` with ``norm``. See ``LSTMCell``.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    _step = RNNStep

    @classmethod
    def from_torch(cls, cell: nn.RNNCell, norm: str | NormScheme | None = None) -> RNNCell:
        """A cell with the matrices and biases of a torch cell; see ``LSTM.from_torch``."""
        return adopt_cell(cls, cell, nn.RNNCell, norm)
