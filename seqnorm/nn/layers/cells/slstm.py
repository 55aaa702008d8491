"""SLSTM, xLSTM's cell with an exponential input gate: the step, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size, P = H / num_heads.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Normalise, State, Step
from ..arguments import check_heads
from ..cell import RecurrentCell
from ..forms import Cell, Layer, passed
from ..layer import RecurrentLayer

FourStates = tuple[Tensor, Tensor, Tensor, Tensor]
_HEADS = Norm("layer", sets="heads", bias=None)


class SLSTMStep(Step):
    """i, f, z, o; c and n decay by sigmoid(f) and add exp(i), scaled by exp(-m); h = o c / n."""

    gates = "ifzo"
    states = "hcnm"
    zoned = "h"
    learned = "h"  # c, n and m describe a mean of what was read, and nothing was
    biases = ("bias_ih",)
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(output=_HEADS),
        "rms": NormScheme(output=Norm("rms", sets="heads", bias=None)),
        "xlstm": NormScheme(output=_HEADS),
    }

    def __init__(self, heads: int) -> None:
        self.heads = heads

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        _, c, n, m = state
        i, f, z, o = norm("sum", x + h).chunk(4, -1)
        kept = F.logsigmoid(f) + m
        # Where n is 0, m has no meaning and must not make exp(i - m) vanish.
        largest = torch.where(n == 0, i, torch.maximum(i, kept))
        write, keep = (i - largest).exp(), (kept - largest).clamp(max=0.0).exp()
        c = keep * c + write * z.tanh()
        n = keep * n + write
        return o.sigmoid() * (c / n), c, n, largest


class SLSTM(Layer[FourStates]):
    """sLSTM of xLSTM (Beck et al. 2024) with normalisation and with lengths.

    With gates i, f, z, o stacked in this order in W_ih (4H, I) and W_hh (4H, P), where each head
    reads only its own P = H / num_heads units of h_(t-1)::

        a   = N(W_ih x_t) + N(W_hh h_(t-1)) + b
        m_t = max(i, log sigmoid(f) + m_(t-1))
        k   = min(1, exp(log sigmoid(f) + m_(t-1) - m_t))
        c_t = k * c_(t-1) + exp(i - m_t) * tanh(z)
        n_t = k * n_(t-1) + exp(i - m_t)
        h_t = sigmoid(o) * c_t / n_t

    Where n_(t-1) = 0, as at the start, m_t = i. m only keeps the exponentials within range: from a
    zero state, h does not depend on it.

    ============ ===================================================================================
    ``norm``     equation
    ============ ===================================================================================
    None         as above (Beck et al. 2024, eq. 8-10, 15-17, with the sigmoid forget gate)
    layer        the output of the layer is N(h_t; 1, -) with the units of each head as a set, h_t
                 itself is carried on (xLSTM's per-head GroupNorm, whose weight is stored as 1 + w)
    rms          the same with RMSNorm
    batch        a = BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b, statistics of every step
    batch_pooled a = BN(W_x x; 0.1, -) + W_h h + b, statistics over all valid frames
    xlstm        as "layer"
    ============ ===================================================================================

    The state is (h, c, n, m) and starts at zero; h_n is h_T before the norm of the output. The only
    bias is ``bias_ih_l0``. xLSTM's block around the cell (its pre-norm, convolution, headwise input
    projections and dropout) is left out; in its published weights the projections named fgate and
    igate are exchanged. Everything else is as in ``LSTM``.

    Args:
        num_heads: number of equal parts of W_hh.
        zoneout: probability that a unit of h keeps its value; c, n and m always change.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_heads: int = 4,
        norm: str | NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals())
        step = SLSTMStep(check_heads("num_heads", options.pop("num_heads"), hidden_size))
        RecurrentLayer.__init__(self, step, **options)
        self.num_heads = step.heads


class SLSTMCell(Cell[FourStates]):
    """One step of ``seqnorm.SLSTM``, without a norm of the output. See ``LSTMCell``.

    Args:
        num_heads: number of equal parts of W_hh.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_heads: int = 4,
        norm: str | NormScheme | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals())
        step = SLSTMStep(check_heads("num_heads", options.pop("num_heads"), hidden_size))
        RecurrentCell.__init__(self, step, **options)
        self.num_heads = step.heads
