"""GRU: the step, its published norms, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size, P = H / heads.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Normalise, State, Step
from ..arguments import check_heads
from ..cell import RecurrentCell
from ..forms import Cell, Layer, passed
from ..layer import RecurrentLayer
from ..torch_weights import TorchCellWeights, TorchWeights

_LAYER = Norm("layer", gain=1.0, bias=0.0)
_LAYER_GAIN = Norm("layer", gain=1.0, bias=None)
_BA_GRU = Norm("layer", sets=("rz", "n"))
_BATCH = Norm("batch", gain=0.1, bias=None)
_RENORM = Norm("batch", gain=0.1, bias=None, r_max=3.0, d_max=5.0)
_POOLED = Norm("batch_pooled", gain=0.1, bias=None)
_UNIFORM = Norm("layer", sets="separate", gain="uniform", bias="uniform")


class GRUStep(Step):
    """r, z, n; n = tanh(x_n + sigmoid(r) h_n); h = z h + (1 - z) n.

    A norm of the sum changes n, see ``NormScheme``.
    """

    gates = "rzn"
    fields = ("update",)
    fused: Any = torch.gru
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": NormScheme(input=_BA_GRU, hidden=_BA_GRU, bias_ih=None),
        "rms": NormScheme(
            input=Norm("rms", ("rz", "n"), bias=None),
            hidden=Norm("rms", ("rz", "n"), bias=None),
            bias_hh="outside",
        ),
        "batch": NormScheme(input=_BATCH, hidden=_BATCH, bias_hh="outside"),
        "batch_pooled": NormScheme(input=_POOLED, bias_hh="outside"),
        "batch_renorm": NormScheme(input=_RENORM, hidden=_RENORM, bias_hh="outside"),
        "ba2016": NormScheme(input=_BA_GRU, hidden=_BA_GRU, bias_ih=None, update="write"),
        "kiros2016": NormScheme(
            input=_BA_GRU, hidden=_BA_GRU, bias_ih="inside", hidden_init="orthogonal"
        ),
        "haste": NormScheme(
            input=_LAYER_GAIN, hidden=_LAYER_GAIN, bias_hh="outside", hidden_init="orthogonal"
        ),
        "icefall": NormScheme(
            sum=_UNIFORM, bias_ih="inside", bias_hh="inside", bias_init="uniform"
        ),
        "dreamer": NormScheme(sum=_LAYER, bias_ih=None, update="write", gate_bias=(("z", -1.0),)),
        "laurent2016": NormScheme(input=Norm("batch_pooled", bias=None), bias_hh="outside"),
        "nemo_batch": NormScheme(frame=Norm("batch_pooled"), bias_ih=None),
    }

    def __init__(self, heads: int = 1) -> None:
        if heads > 1:  # with one head it is torch's GRU
            self.heads, self.fused = heads, None

    def check(self, scheme: NormScheme) -> None:
        super().check(scheme)
        if scheme.sum is not None and isinstance(scheme.sum.sets, int):
            raise ValueError(
                f"sum=Norm(sets={scheme.sum.sets}): a GRU's candidate holds the reset gate, so a "
                'set must not mix them in part: write "joint", "separate" or ("rz", "n")'
            )

    def from_torch(self, rows: Tensor, scheme: NormScheme | None) -> Tensor:
        if scheme is None or scheme.update == "keep":
            return rows
        r, z, n = rows.chunk(3)
        return torch.cat([r, -z, n])

    def spans(self, scheme: NormScheme) -> dict[str, str]:
        if scheme.sum is None or scheme.sum.over_batch or scheme.sum.sets == "joint":
            return super().spans(scheme)
        # The candidate's sum contains the reset gate, so r and z are normalised first.
        return {"sum": "rz", "candidate": "n"}

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        (before,) = state
        size = before.shape[-1]
        of_sum = scheme is not None and scheme.sum is not None
        if scheme is not None and of_sum and "candidate" not in self.spans(scheme):
            r, z, n = norm("sum", x + h).chunk(3, -1)
            r, z, n = r.sigmoid(), z.sigmoid(), (r.sigmoid() * n).tanh()
        else:
            x_rz, x_n = x.split([2 * size, size], -1)
            h_rz, h_n = h.split([2 * size, size], -1)
            r, z = norm("sum", x_rz + h_rz).sigmoid().chunk(2, -1)
            n = norm("candidate", x_n + r * h_n).tanh()
        keep, write = (before, n) if scheme is None or scheme.update == "keep" else (n, before)
        return (z * keep + (1.0 - z) * write,)


class GRU(Layer[Tensor], TorchWeights[nn.GRU]):
    """``torch.nn.GRU`` with normalisation inside the recurrence and with lengths.

    With gates r, z, n stacked in this order in W_ih (3H, I) and W_hh (3H, P), and the terms
    x = N(W_ih x_t) + b and h = N(W_hh h_(t-1)) + b'::

        r, z = sigmoid(x_rz + h_rz)
        n    = tanh(x_n + r * h_n)
        h_t  = z * h_(t-1) + (1 - z) * n

    ============ ===================================================================================
    ``norm``     equation (a: r, z, n before their nonlinearities)
    ============ ===================================================================================
    None         torch's GRU
    layer        N(W_x x; 1, 0) and N(W_h h; 1, 0), r and z joint over 2H, n apart; no b (Ba et al.
                 2016, eq. 26-28; z keeps the state, as in torch)
    rms          the same sites with RMSNorm: gain 1, no bias in the norm, b in both terms
    batch        BN(W_x x; 0.1, -) + b and BN(W_h h; 0.1, -) + b', statistics of every step (the
                 sites of Cooijmans et al. 2017; there is no published one)
    batch_pooled BN(W_x x; 0.1, -) + b, statistics over all valid frames, and W_h h + b'
    batch_renorm as "batch" with Batch Renormalization, r_max 3 and d_max 5 (Ioffe 2017, section 3)
    ba2016       as "layer", where z takes the candidate: h_t = (1 - z) h_(t-1) + z n
    kiros2016    N(W_x x + b) and N(W_h h), r and z joint over 2H, n apart; z keeps the state;
                 W_hh orthogonal (layer-norm, R. Kiros 2016)
    haste        N(W_x x; 1, -) + b and N(W_h h; 1, -) + b', each joint over 3H; z keeps the state;
                 W_hh orthogonal
    icefall      N for r, for z, and for x_n + r h_n, biases within; all drawn
    dreamer      a = N(W [h, x]) joint over 3H; n = tanh(r a_n), h_t = z n + (1 - z) h_(t-1) with
                 z = sigmoid(a_z - 1)
    laurent2016  as "batch_pooled" with gain 1 (Laurent et al. 2016, sequence-wise)
    nemo_batch   BN(x), over all valid frames, before W_x; no b (NeMo, BNRNNSum, which leaves out
                 the first layer's norm)
    ============ ===================================================================================

    With one head P = H. With several, W_hh is block-diagonal: P = H / heads, and row k of each gate
    reads only the P units of h_(t-1) of head k // P. The matrix then has H / P times fewer weights.
    The norms stay as they are, over the units of all heads. A norm with ``sets="heads"`` has a set
    for each head of each gate. A time loop in Python computes heads in half precision, on a GPU,
    and with such sets.

    Everything else is as in ``LSTM``; ``zoneout`` is one probability, and there is no proj_size.

    Args:
        heads: number of equal parts of W_hh, which has to divide ``hidden_size``. DreamerV3 has
            eight in its recurrence (``seqnorm.DreamerGRUCell``).
    """

    heads = 1
    step_class = GRUStep
    torch_class = nn.GRU

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
        heads: int = 1,
        norm: str | NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals(), "heads")
        heads = check_heads("heads", heads, hidden_size)
        RecurrentLayer.__init__(self, self.step_class(heads), **options)
        self.heads = heads


class GRUCell(Cell[Tensor], TorchCellWeights[nn.GRUCell]):
    """One step of ``seqnorm.GRU``; ``torch.nn.GRUCell`` with ``norm``. See ``LSTMCell``.

    Args:
        heads: number of equal parts of W_hh, see ``GRU``.
    """

    heads = 1
    step_class = GRUStep
    torch_class = nn.GRUCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        heads: int = 1,
        norm: str | NormScheme | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals(), "heads")
        heads = check_heads("heads", heads, hidden_size)
        RecurrentCell.__init__(self, self.step_class(heads), **options)
        self.heads = heads
