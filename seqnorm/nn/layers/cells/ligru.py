"""LiGRU, a GRU without a reset gate: the step, its published norms, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Nonlinear, Normalise, State
from ..forms import NonlinearCell, NonlinearLayer, passed

_SPEECHBRAIN = Norm("batch_pooled", momentum=0.05)


class LiGRUStep(Nonlinear):
    """a, z; h = sigmoid(z) h + (1 - sigmoid(z)) f(a)."""

    gates = "az"
    biases = ("bias_ih",)
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(input=Norm("layer"), bias_ih=None),
        "rms": NormScheme(input=Norm("rms", bias=None)),
        "ravanelli2018": NormScheme(input=_SPEECHBRAIN, bias_ih=None, hidden_init="orthogonal"),
        "moumen2023": NormScheme(
            input=_SPEECHBRAIN,
            hidden=Norm("layer", gain=None, bias=None),
            bias_ih=None,
            hidden_init="orthogonal",
        ),
    }

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        (before,) = state
        a, z = norm("sum", x + h).chunk(2, -1)
        z = z.sigmoid()
        return (z * before + (1.0 - z) * self.activate(a),)


class LiGRU(NonlinearLayer):
    """Light gated recurrent unit (Ravanelli et al. 2018) with normalisation and with lengths.

    With gates a, z stacked in this order in W_ih (2H, I) and W_hh (2H, H), the terms
    x = N(W_ih x_t) + b and h = N(W_hh h_(t-1)), and f = ReLU or tanh::

        a, z = N(x + h)
        h_t  = sigmoid(z) * h_(t-1) + (1 - sigmoid(z)) * f(a)

    ============= ==================================================================================
    ``norm``      equation
    ============= ==================================================================================
    None          [a, z] = W_x x + b + W_h h
    layer         [a, z] = N(W_x x; 1, 0) + W_h h, joint over 2H (SpeechBrain, "layernorm")
    rms           [a, z] = RMS(W_x x; 1) + b + W_h h
    batch         [a, z] = BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b, statistics of every step
    batch_pooled  [a, z] = BN(W_x x; 0.1, -) + b + W_h h, statistics over all valid frames
    ravanelli2018 [a, z] = BN(W_x x; 1, 0) + W_h h, over all valid frames, momentum 0.05
                  (SpeechBrain, "batchnorm", which counts padding too); W_hh orthogonal
    moumen2023    as ravanelli2018 with N(W_h h; -, -) (SLi-GRU, Moumen and Parcollet 2023)
    ============= ==================================================================================

    Everything else is as in ``LSTM``; ``zoneout`` is one probability, there is no proj_size, and
    the only bias is ``bias_ih_l0``. SpeechBrain's dropout of f(a) is left out.

    Args:
        nonlinearity: "relu" or "tanh".
    """

    step_class = LiGRUStep

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(**passed(locals()))


class LiGRUCell(NonlinearCell):
    """One step of ``seqnorm.LiGRU``. See ``LSTMCell``.

    Args:
        nonlinearity: "relu" or "tanh".
    """

    step_class = LiGRUStep

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__(**passed(locals()))
