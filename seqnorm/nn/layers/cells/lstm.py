"""LSTM: its mathematics, its published norms, the layer and the single step.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ...recurrence.scheme import Norm, NormScheme
from ...recurrence.step import Normalise, State, Step
from ..forms import Cell, Layer, passed
from ..layer import RecurrentLayer
from ..torch_weights import TorchCellWeights, TorchWeights

TwoStates = tuple[Tensor, Tensor]

_LAYER = Norm("layer", gain=1.0, bias=0.0)
_LAYER_GAIN = Norm("layer", gain=1.0, bias=None)
_RMS = Norm("rms", gain=1.0, bias=None)
_BATCH = Norm("batch", gain=0.1, bias=None)
_BATCH_BIAS = Norm("batch", gain=0.1, bias=0.0)
_POOLED = Norm("batch_pooled", gain=0.1, bias=None)
_UNIFORM = Norm("layer", sets="separate", gain="uniform", bias="uniform")
_UNIFORM_JOINT = Norm("layer", gain="uniform", bias="uniform")
_TFA = Norm("layer", eps=1e-3)
_CONTRIB = Norm("layer", eps=1e-12)
_FORGET = (("f", 1.0),)

_BA = NormScheme(input=_LAYER, hidden=_LAYER, cell=_LAYER)
_COOIJMANS = NormScheme(input=_BATCH, hidden=_BATCH, cell=_BATCH_BIAS, gate_bias=_FORGET)


class LSTMStep(Step):
    """i, f, g, o; c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(N(c))."""

    gates = "ifgo"
    states = "hc"
    fields = ("cell", "cell_state")
    fused = torch.lstm
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": _BA,
        "rms": NormScheme(input=_RMS, hidden=_RMS, cell=_RMS),
        "batch": _COOIJMANS,
        "batch_pooled": NormScheme(input=_POOLED),
        "ba2016": _BA,
        "ba2016_draw": NormScheme(cell=_LAYER),
        "kiros2016": NormScheme(
            input=_LAYER, hidden=_LAYER, cell=_LAYER, bias_ih="both", hidden_init="orthogonal"
        ),
        "kiros_torch": NormScheme(
            cell=Norm("layer", eps_on="std"), bias_hh="outside", bias_init="uniform"
        ),
        "fastrnns": NormScheme(
            input=_LAYER, hidden=_LAYER, cell=_LAYER, cell_state="normalised", bias_ih=None
        ),
        "nemo": NormScheme(
            input=_UNIFORM_JOINT,
            hidden=_UNIFORM_JOINT,
            cell=_UNIFORM_JOINT,
            cell_state="normalised",
            bias_ih=None,
            gate_bias=_FORGET,
        ),
        "haste": NormScheme(
            input=_LAYER_GAIN,
            hidden=_LAYER_GAIN,
            cell=_LAYER,
            gate_bias=_FORGET,
            hidden_init="orthogonal",
        ),
        "tfa": NormScheme(
            input=_TFA,
            hidden=_TFA,
            cell=_TFA,
            cell_state="normalised",
            gate_bias=_FORGET,
            hidden_init="orthogonal",
        ),
        "tf_contrib": NormScheme(
            sum=Norm("layer", "separate", eps=1e-12),
            cell=_CONTRIB,
            cell_state="normalised",
            bias_ih=None,
            gate_bias=_FORGET,
        ),
        "icefall": NormScheme(
            sum=_UNIFORM,
            cell=_UNIFORM_JOINT,
            cell_state="normalised",
            bias_ih="inside",
            bias_hh="inside",
            bias_init="uniform",
        ),
        "di_engine": NormScheme(input=_LAYER, hidden=_LAYER, bias_init="uniform"),
        "cooijmans2016": _COOIJMANS,
        "cooijmans2016_sequencewise": _COOIJMANS.replace(input=_POOLED),
        "nemo_batch": NormScheme(frame=Norm("batch_pooled"), bias_ih=None),
        "jihunchoi": NormScheme(
            input=_BATCH_BIAS, hidden=_BATCH_BIAS, cell=_BATCH_BIAS, hidden_init="identity"
        ),
        "laurent2016": NormScheme(input=Norm("batch_pooled", bias=None)),
    }

    def step(
        self, x: Tensor, h: Tensor, state: State, norm: Normalise, scheme: NormScheme | None
    ) -> State:
        _, c = state
        i, f, g, o = norm("sum", x + h).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        normalised = norm("cell", c)
        feeds_back = scheme is not None and scheme.cell_state == "normalised"
        return o.sigmoid() * normalised.tanh(), normalised if feeds_back else c


class LSTM(Layer[TwoStates], TorchWeights[nn.LSTM]):
    """``torch.nn.LSTM`` with normalisation inside the recurrence, and with lengths.

    With gates i, f, g, o stacked in this order in W_ih (4H, I) and W_hh (4H, P)::

        a   = N(W_ih x_t) + N(W_hh h_(t-1)) + b
        c_t = sigmoid(f) * c_(t-1) + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(N(c_t))              (times W_hr (P, H) with proj_size)

    ``norm`` says what N is and where it stands: ``None``, the name of a preset, or a
    ``NormScheme``. N(z; gain, bias) is LayerNorm and BN(z; gain, bias) BatchNorm, with initial
    values, "-" where there is none; c is carried on without its norm unless fed back.

    ============ ===================================================================================
    ``norm``     equation (a: gates before their sigmoid and tanh)
    ============ ===================================================================================
    None         torch's LSTM
    layer        a = N(W_x x; 1, 0) + N(W_h h; 1, 0) + b, each joint over 4H, and h = o tanh(N(c;
                 1, 0)) (Ba et al. 2016, eq. 20-22)
    rms          the same sites with RMSNorm: gain 1, no bias in the norm
    batch        a = BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b, h = o tanh(BN(c; 0.1, 0)), forget
                 bias 1; statistics of every time step of their own, over the sequences still
                 running there (Cooijmans et al. 2017, eq. 6-8)
    batch_pooled a = BN(W_x x; 0.1, -) + W_h h + b, statistics over all valid frames
    ba2016       as "layer"
    ba2016_draw  gates without norm, h = o tanh(N(c)) (eq. 29-31)
    kiros2016    a = N(W_h h) + N(W_x x + b) + b, the same b twice, h = o tanh(N(c)) (layer-norm,
                 R. Kiros 2016)
    kiros_torch  h = o tanh(N(c)) alone, eps added to the standard deviation
    fastrnns     a = N(W_x x) + N(W_h h); c = N(f c + i g) and fed back (pytorch
                 benchmarks/fastrnns; its unscaled N(0, 1) matrices are filler and not copied)
    nemo         as fastrnns; gains and biases drawn U(-1/sqrt(H), 1/sqrt(H)), forget bias 1
    haste        a = N(W_x x; 1, -) + N(W_h h; 1, -) + b, h = o tanh(N(c)), forget bias 1, W_hh
                 orthogonal
    tfa          a = N(W_x x) + N(W_h h) + b, c = N(c) fed back, eps 1e-3, forget bias 1
                 (TensorFlow Addons)
    tf_contrib   a = N(W [x, h]) for each gate apart, c = N(c) fed back, eps 1e-12, forget bias 1
                 (TF1 LayerNormBasicLSTMCell)
    icefall      a = N(W_x x + b + W_h h + b') for each gate apart, c = N(c) fed back; all drawn
    di_engine    a = N(W_x x) + N(W_h h) + b, c without norm
    laurent2016  as "batch_pooled" with gain 1 (Laurent et al. 2016, sequence-wise)
    nemo_batch   a = W_x BN(x) + W_h h, over all valid frames (NeMo, BNRNNSum, which leaves out the
                 first layer's norm)
    jihunchoi    as "batch" with a bias in every norm, forget bias 0, W_hh identity
    ============ ===================================================================================

    cooijmans2016 is "batch", and cooijmans2016_sequencewise the same with the statistics of W_x x
    over all valid frames (their BN-e*). Matrices are drawn as torch draws them, W_hh as said;
    haste's Xavier W_ih and Cooijmans' initial W are not copied.

    Sequences of different length come as a ``PackedSequence`` or padded with ``lengths``. Padding
    enters nothing: no output, state, gradient or statistic. No steps at all (T = 0), which torch
    refuses, leave the state as it is. The backward direction of a
    bidirectional layer turns every sequence round within its own length, so its step k (for "batch"
    statistics) is the k-th that each sequence takes. A sequence of length 0 keeps its initial
    state.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype: as in ``torch.nn.LSTM``. A norm's own bias is not governed by ``bias``.
        norm: see above.
        zoneout: probability that a unit of h and c keeps its value of the step before (Krueger et
            al. 2017), or a pair for (h, c); inference takes the expectation. h_t is computed from
            the new c_t, and W_hr applied, before either is held back.
        recurrent_dropout: probability that an element of W_hh is zeroed, drawn once for each
            forward call and the same at all steps (weight drop; Merity et al. 2018).

    Parameters have torch's names and shapes (``weight_ih_l0``, ``weight_hh_l0_reverse``, ...); a
    scheme keeps those biases that it uses. Norms are submodules ``norm_ih_l0``, ``norm_hh_l0``,
    ``norm_sum_l0``, ``norm_cell_l0`` with ``weight``, ``bias`` and, for BatchNorm, ``table``, a
    ``RunningTable``. Where weights were averaged, ``seqnorm.update_bn(loader, model)`` gives the
    tables statistics of the average; ``torch.optim.swa_utils.update_bn`` passes them over.

    Raises:
        TypeError, ValueError: a size, probability or norm that means nothing, at construction.
    """

    step_class = LSTMStep
    torch_class = nn.LSTM
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args
    permute_hidden = nn.LSTM.permute_hidden

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        RecurrentLayer.__init__(self, self.step_class(), **passed(locals()))


class LSTMCell(Cell[TwoStates], TorchCellWeights[nn.LSTMCell]):
    """One step of ``seqnorm.LSTM``; ``torch.nn.LSTMCell`` with ``norm``.

    Parameters are ``weight_ih`` (4H, I), ``weight_hh`` (4H, H), ``bias_ih`` and ``bias_hh`` (4H,)
    as the scheme uses them, and ``norm_ih``, ``norm_hh``, ``norm_sum``, ``norm_cell``. Stepped over
    a sequence it gives what the layer gives, running statistics included.

    Raises:
        TypeError, ValueError: a size or norm that means nothing, at construction.
    """

    step_class = LSTMStep
    torch_class = nn.LSTMCell
