"""LSTM: the step, its published norms, the layer and the cell.

Axes: T steps, B sequences, n rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
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

TwoStates = tuple[Tensor, Tensor]

_LAYER = Norm("layer", gain=1.0, bias=0.0)
_LAYER_GAIN = Norm("layer", gain=1.0, bias=None)
_RMS = Norm("rms", gain=1.0, bias=None)
_BATCH = Norm("batch", gain=0.1, bias=None)
_BATCH_BIAS = Norm("batch", gain=0.1, bias=0.0)
_UNIFORM = Norm("layer", gain="uniform", bias="uniform")
_FORGET = (("f", 1.0),)

_BA = NormScheme(input=_LAYER, hidden=_LAYER, cell=_LAYER)
_FED_BACK = _BA.replace(cell_state="normalised", bias_ih=None)
_COOIJMANS = NormScheme(input=_BATCH, hidden=_BATCH, cell=_BATCH_BIAS, gate_bias=_FORGET)


class LSTMStep(Step):
    """i, f, g, o; c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(N(c))."""

    gates = "ifgo"
    states = "hc"
    fields = ("cell", "cell_state")
    projects = True
    fused: Any = torch.lstm
    presets: ClassVar[dict[str, NormScheme]] = {
        "layer": _BA,
        "rms": NormScheme(input=_RMS, hidden=_RMS, cell=_RMS),
        "batch": _COOIJMANS,
        "batch_renorm": _COOIJMANS.replace(r_max=3.0, d_max=5.0),
        "ba2016": _BA,
        "ba2016_draw": NormScheme(cell=_LAYER),
        "kiros2016": _BA.replace(bias_ih="both", hidden_init="orthogonal"),
        "kiros_torch": NormScheme(
            cell=Norm("layer", eps_on="std"), bias_hh="outside", bias_init="uniform"
        ),
        "fastrnns": _FED_BACK,
        "nemo": _FED_BACK.replace(gain="uniform", bias="uniform", gate_bias=_FORGET),
        "haste": _BA.replace(
            input=_LAYER_GAIN, hidden=_LAYER_GAIN, gate_bias=_FORGET, hidden_init="orthogonal"
        ),
        "tfa": _BA.replace(
            eps=1e-3, cell_state="normalised", gate_bias=_FORGET, hidden_init="orthogonal"
        ),
        "tf_contrib": NormScheme(
            sum=Norm("layer", "separate"),
            cell=_LAYER,
            cell_state="normalised",
            bias_ih=None,
            gate_bias=_FORGET,
        ).replace(eps=1e-12),
        "returnn": _FED_BACK.replace(hidden=_LAYER_GAIN, eps=1e-12),
        "icefall": NormScheme(
            sum=Norm("layer", "separate", "uniform", "uniform"),
            cell=_UNIFORM,
            cell_state="normalised",
            bias_ih="inside",
            bias_hh="inside",
            bias_init="uniform",
        ),
        "di_engine": NormScheme(input=_LAYER, hidden=_LAYER, bias_init="uniform"),
        "cooijmans2016": _COOIJMANS,
        "cooijmans2016_sequencewise": _COOIJMANS.replace(
            input=Norm("batch_pooled", gain=0.1, bias=None)
        ),
        "nemo_batch": NormScheme(frame=Norm("batch_pooled"), bias_ih=None),
        "jihunchoi": _COOIJMANS.replace(bias=0.0, gate_bias=(), hidden_init="identity"),
        "laurent2016": NormScheme(input=Norm("batch_pooled", bias=None)),
    }

    def __init__(self, heads: int = 1) -> None:
        if heads > 1:  # with one head it is torch's LSTM
            self.heads, self.fused, self.projects = heads, None, False

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
    """``torch.nn.LSTM`` with normalisation inside the recurrence and with lengths.

    With gates i, f, g, o stacked in this order in W_ih (4H, I) and W_hh (4H, P)::

        a   = N(W_ih x_t) + N(W_hh h_(t-1)) + b
        c_t = sigmoid(f) * c_(t-1) + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(N(c_t))              (times W_hr (P, H) with proj_size)

    ``norm`` defines each N and its place: ``None``, the name of a preset, or a ``NormScheme``.
    N(z; gain, bias) is LayerNorm and BN(z; gain, bias) is BatchNorm, with initial values; "-" means
    no gain or no bias. c is carried on before its norm, unless the norm is fed back.

    ============ ===================================================================================
    ``norm``     equation (a: gates before their sigmoid and tanh)
    ============ ===================================================================================
    None         torch's LSTM
    layer        a = N(W_x x; 1, 0) + N(W_h h; 1, 0) + b, each joint over 4H, and h = o tanh(N(c;
                 1, 0)) (Ba et al. 2016, eq. 20-22)
    rms          the same sites with RMSNorm: gain 1, no bias in the norm
    batch        a = BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b, h = o tanh(BN(c; 0.1, 0)), forget
                 bias 1; separate statistics for every time step, over the sequences that are
                 still running there (Cooijmans et al. 2017, eq. 6-8)
    batch_pooled a = BN(W_x x; 0.1, -) + W_h h + b, statistics over all valid frames
    batch_renorm as "batch" with Batch Renormalization, r_max 3 and d_max 5 (Ioffe 2017, section 3,
                 at the sites of Cooijmans et al. 2017)
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
    returnn      a = N(W_x x) + N(W_h h; 1, -), c = N(c) fed back, eps 1e-12 (RETURNN,
                 LayerNormVariantsLSTMCell with global_norm and cell_norm)
    icefall      a = N(W_x x + b + W_h h + b') for each gate apart, c = N(c) fed back; all drawn
    di_engine    a = N(W_x x) + N(W_h h) + b, c without norm
    laurent2016  as "batch_pooled" with gain 1 (Laurent et al. 2016, sequence-wise)
    nemo_batch   a = W_x BN(x) + W_h h, over all valid frames (NeMo, BNRNNSum, which leaves out the
                 first layer's norm)
    jihunchoi    as "batch" with a bias in every norm, forget bias 0, W_hh identity
    ============ ===================================================================================

    cooijmans2016 is "batch"; in cooijmans2016_sequencewise the statistics of W_x x are over all
    valid frames (their BN-e*). Matrices are drawn as in torch, unless the table says otherwise for
    W_hh; haste's Xavier W_ih and Cooijmans' initial W are not copied.

    Sequences of different lengths come as a ``PackedSequence`` or padded with ``lengths``. Padding
    enters no output, state, gradient or statistic. The backward direction reverses every sequence
    within its own length, so its step k (for "batch" statistics) is the k-th step of each sequence.
    A sequence of length 0 keeps its initial state, and so does a batch of no steps (T = 0), which
    torch refuses.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype: as in ``torch.nn.LSTM``. ``bias`` does not affect the biases of norms.
        norm: see above.
        zoneout: probability that a unit of h and c keeps its previous value (Krueger et al. 2017),
            or a pair for (h, c); inference takes the expectation. h_t is computed from the new c_t
            and projected by W_hr before either is held back.
        recurrent_dropout: probability that an element of W_hh is zeroed, drawn once for each
            forward call and all its steps (weight drop; Merity et al. 2018).
        heads: number of equal parts of W_hh, which has to divide ``hidden_size``. With several,
            W_hh (4H, H / heads) is block-diagonal, see ``seqnorm.GRU``, and there is no proj_size.
        learn_initial_state: if true, sequences begin with learned states, also after resets,
            instead of zeros: the parameters ``h_0`` (L * D, P) and ``c_0`` (L * D, H), first zero.
            In an sLSTM only h is learned.

    Parameters have torch's names and shapes (``weight_ih_l0``, ``weight_hh_l0_reverse``, ...); a
    scheme keeps only the biases that it uses. Norms are submodules ``norm_ih_l0``, ``norm_hh_l0``,
    ``norm_sum_l0``, ``norm_cell_l0`` with ``weight``, ``bias`` and, for BatchNorm, ``table``, a
    ``RunningTable``. After averaging weights, call ``seqnorm.update_bn(loader, model)`` for
    statistics of the average; ``torch.optim.swa_utils.update_bn`` ignores the tables.

    Raises:
        TypeError, ValueError: a size, probability or norm is invalid.
    """

    heads = 1
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
        heads: int = 1,
        norm: str | NormScheme | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
        learn_initial_state: bool = False,
    ) -> None:
        options = passed(locals(), "heads")
        heads = check_heads("heads", heads, hidden_size)
        RecurrentLayer.__init__(self, self.step_class(heads), **options)
        self.heads = heads


class LSTMCell(Cell[TwoStates], TorchCellWeights[nn.LSTMCell]):
    """One step of ``seqnorm.LSTM``; ``torch.nn.LSTMCell`` with ``norm``.

    Parameters are ``weight_ih`` (4H, I), ``weight_hh`` (4H, H), ``bias_ih`` and ``bias_hh`` (4H,)
    if the scheme uses them, and ``norm_ih``, ``norm_hh``, ``norm_sum``, ``norm_cell``. Applied to
    each step of a sequence, the cell computes the same as the layer, running statistics included.

    Args:
        heads: number of equal parts of W_hh, see ``LSTM``.

    Raises:
        TypeError, ValueError: a size or norm is invalid.
    """

    heads = 1
    step_class = LSTMStep
    torch_class = nn.LSTMCell

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
