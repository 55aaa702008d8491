"""IndRNN, whose units read no other unit of the state: the step, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Nonlinear, Normalise, State
from ..forms import NonlinearCell, NonlinearLayer


class IndRNNStep(Nonlinear):
    """h = f(N(x + u h)) with an elementwise product u h."""

    gates = "h"
    biases = ("bias_ih",)
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(input=Norm("layer", bias=None)),
        "rms": NormScheme(input=Norm("rms", bias=None)),
        "batch": NormScheme(input=Norm("batch", gain=0.1, bias=None)),
        "haste": NormScheme(input=Norm("layer", bias=None)),
    }

    def check(self, scheme: NormScheme) -> None:
        super().check(scheme)
        if scheme.hidden_init != "uniform":
            raise ValueError(
                f"hidden_init={scheme.hidden_init!r} needs a square matrix, and an IndRNN has "
                'one weight for each unit: leave hidden_init="uniform"'
            )

    def hidden_shape(self, hidden_size: int, width: int) -> tuple[int, ...]:
        return (hidden_size,)

    def hidden_blocks(self, weight: Tensor, hidden_size: int) -> tuple[Tensor, ...]:
        return ()

    def hidden_term(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        term = h * weight
        return term if bias is None else term + bias

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        return (self.activate(norm("sum", x + h)),)


class IndRNN(NonlinearLayer):
    """Independently recurrent network (Li et al. 2018) with normalisation and with lengths.

    Each unit of the state reads only itself, through a weight u (H,) in the place of W_hh. With
    x = N(W_ih x_t) + b, W_ih (H, I), and f = tanh or ReLU::

        h_t = f(x + u * h_(t-1))

    ============ ===================================================================================
    ``norm``     equation
    ============ ===================================================================================
    None         h_t = f(W_x x + b + u h) (Li et al. 2018, eq. 2, with ReLU)
    layer        h_t = f(N(W_x x; 1, -) + b + u h)
    rms          the same with RMSNorm
    batch        h_t = f(BN(W_x x; 0.1, -) + b + u h), statistics of every step
    batch_pooled the same, statistics over all valid frames
    haste        as "layer" (haste, LayerNormIndRNN, with tanh)
    ============ ===================================================================================

    Everything else is as in ``LSTM``; ``zoneout`` is one probability, there is no proj_size, and
    the only bias is ``bias_ih_l0``. u is drawn as W_hh in torch, from U(-1/sqrt(H), 1/sqrt(H)).

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class = IndRNNStep


class IndRNNCell(NonlinearCell):
    """One step of ``seqnorm.IndRNN``. See ``LSTMCell``.

    Args:
        nonlinearity: "tanh" or "relu".
    """

    step_class = IndRNNStep
