"""Named schemes: every published normalised LSTM and GRU cell, and the four plain names.

N(z) is LayerNorm, BN(z) BatchNorm with statistics of every time step of its own, unless said; a
norm has a gain (first value) and a bias (second). Gate order is torch's in all of them (i, f, g, o
and r, z, n); where a norm joins gates, their order has no influence.
"""

from __future__ import annotations

from .check import choose, nearest
from .scheme import Norm, NormScheme

CELL_NAMES = ("LSTM", "GRU")

_LAYER = Norm("layer", gain=1.0, bias=0.0)
_LAYER_GAIN = Norm("layer", gain=1.0, bias=None)
_BA_GRU = Norm("layer", sets=("rz", "n"))
_RMS = Norm("rms", gain=1.0, bias=None)
_BATCH = Norm("batch", gain=0.1, bias=None)
_BATCH_BIAS = Norm("batch", gain=0.1, bias=0.0)
_POOLED = Norm("batch_pooled", gain=0.1, bias=None)
_UNIFORM = Norm("layer", sets="separate", gain="uniform", bias="uniform")
_UNIFORM_JOINT = Norm("layer", gain="uniform", bias="uniform")
_TFA = Norm("layer", eps=1e-3)
_CONTRIB = Norm("layer", eps=1e-12)
_FORGET = (("f", 1.0),)

_BA_LSTM = NormScheme(input=_LAYER, hidden=_LAYER, cell=_LAYER)
_COOIJMANS = NormScheme(input=_BATCH, hidden=_BATCH, cell=_BATCH_BIAS, gate_bias=_FORGET)

PRESETS: dict[str, dict[str, NormScheme]] = {
    "layer": {
        "LSTM": _BA_LSTM,
        "GRU": NormScheme(input=_BA_GRU, hidden=_BA_GRU, bias_ih=None),
    },
    "rms": {
        "LSTM": NormScheme(input=_RMS, hidden=_RMS, cell=_RMS),
        "GRU": NormScheme(
            input=Norm("rms", ("rz", "n"), bias=None),
            hidden=Norm("rms", ("rz", "n"), bias=None),
            bias_hh="outside",
        ),
    },
    "batch": {
        "LSTM": _COOIJMANS,
        "GRU": NormScheme(input=_BATCH, hidden=_BATCH, bias_hh="outside"),
    },
    "batch_pooled": {
        "LSTM": NormScheme(input=_POOLED),
        "GRU": NormScheme(input=_POOLED, bias_hh="outside"),
    },
    "ba2016": {
        "LSTM": _BA_LSTM,
        "GRU": NormScheme(input=_BA_GRU, hidden=_BA_GRU, bias_ih=None, update="write"),
    },
    "ba2016_draw": {"LSTM": NormScheme(cell=_LAYER)},
    "kiros2016": {
        "LSTM": NormScheme(
            input=_LAYER, hidden=_LAYER, cell=_LAYER, bias_ih="both", hidden_init="orthogonal"
        ),
        "GRU": NormScheme(
            input=_BA_GRU, hidden=_BA_GRU, bias_ih="inside", hidden_init="orthogonal"
        ),
    },
    "kiros_torch": {
        "LSTM": NormScheme(cell=Norm("layer", eps_on="std"), bias_hh="outside", bias_init="uniform")
    },
    "fastrnns": {
        "LSTM": NormScheme(
            input=_LAYER, hidden=_LAYER, cell=_LAYER, cell_state="normalised", bias_ih=None
        )
    },
    "nemo": {
        "LSTM": NormScheme(
            input=_UNIFORM_JOINT,
            hidden=_UNIFORM_JOINT,
            cell=_UNIFORM_JOINT,
            cell_state="normalised",
            bias_ih=None,
            gate_bias=_FORGET,
        )
    },
    "haste": {
        "LSTM": NormScheme(
            input=_LAYER_GAIN,
            hidden=_LAYER_GAIN,
            cell=_LAYER,
            gate_bias=_FORGET,
            hidden_init="orthogonal",
        ),
        "GRU": NormScheme(
            input=_LAYER_GAIN, hidden=_LAYER_GAIN, bias_hh="outside", hidden_init="orthogonal"
        ),
    },
    "tfa": {
        "LSTM": NormScheme(
            input=_TFA,
            hidden=_TFA,
            cell=_TFA,
            cell_state="normalised",
            gate_bias=_FORGET,
            hidden_init="orthogonal",
        )
    },
    "tf_contrib": {
        "LSTM": NormScheme(
            sum=Norm("layer", "separate", eps=1e-12),
            cell=_CONTRIB,
            cell_state="normalised",
            bias_ih=None,
            gate_bias=_FORGET,
        )
    },
    "icefall": {
        "LSTM": NormScheme(
            sum=_UNIFORM,
            cell=_UNIFORM_JOINT,
            cell_state="normalised",
            bias_ih="inside",
            bias_hh="inside",
            bias_init="uniform",
        ),
        "GRU": NormScheme(sum=_UNIFORM, bias_ih="inside", bias_hh="inside", bias_init="uniform"),
    },
    "di_engine": {"LSTM": NormScheme(input=_LAYER, hidden=_LAYER, bias_init="uniform")},
    "dreamer": {
        "GRU": NormScheme(sum=_LAYER, bias_ih=None, update="write", gate_bias=(("z", -1.0),))
    },
    "cooijmans2016": {"LSTM": _COOIJMANS},
    "cooijmans2016_sequencewise": {"LSTM": _COOIJMANS.replace(input=_POOLED)},
    "jihunchoi": {
        "LSTM": NormScheme(
            input=_BATCH_BIAS, hidden=_BATCH_BIAS, cell=_BATCH_BIAS, hidden_init="identity"
        )
    },
    "laurent2016": {
        "LSTM": NormScheme(input=Norm("batch_pooled", bias=None)),
        "GRU": NormScheme(input=Norm("batch_pooled", bias=None), bias_hh="outside"),
    },
}


def preset(name: str, cell: str = "LSTM", **changes: object) -> NormScheme:
    """The scheme of that name for a cell ("LSTM" or "GRU"), with fields replaced.

    ============================ ===================================================================
    name                         equation (a: gates before their sigmoid and tanh)
    ============================ ===================================================================
    layer                        LSTM: a = N(W_x x; 1, 0) + N(W_h h; 1, 0) + b, each joint over 4H;
                                 h = o tanh(N(c; 1, 0)), c carried on raw (Ba et al. 2016, eq.
                                 20-22). GRU: [r, z] joint over 2H and n apart, normalised in both
                                 terms, no b (eq. 26-28); z keeps the state, as in torch
    rms                          the same sites with RMSNorm: gain 1, no bias in the norm, b outside
    batch                        LSTM: a = BN(W_x x; 0.1, -) + BN(W_h h; 0.1, -) + b, h = o
                                 tanh(BN(c; 0.1, 0)) (Cooijmans et al. 2017, eq. 6-8; forget bias 1
                                 as their code). GRU (no published one): the same two terms, with
                                 torch's two biases
    batch_pooled                 a = BN(W_x x; 0.1, -) + W_h h + b, statistics over all valid frames
    ba2016                       as "layer"; in the GRU z takes the candidate, h = (1-z)h + z n
    ba2016_draw                  LSTM: gates without norm, h = o tanh(N(c)) (eq. 29-31)
    kiros2016                    LSTM: a = N(W_h h) + N(W_x x + b) + b, the same b twice, h = o
                                 tanh(N(c)). GRU: four norms, of W_x x + b over 2H and H, and of
                                 W_h h over 2H and H; z keeps the state (layer-norm, R. Kiros 2016)
    kiros_torch                  LSTM: N(c) at the output only, eps added to the standard deviation
    fastrnns                     LSTM: a = N(W_x x) + N(W_h h); c = N(f c + i g) and fed back
                                 (pytorch benchmarks/fastrnns; its unscaled N(0,1) matrices are
                                 a benchmark's filler and not copied)
    nemo                         as fastrnns; gains and biases drawn U(-1/sqrt(H), 1/sqrt(H)),
                                 forget bias 1
    haste                        LSTM: a = N(W_x x; 1, -) + N(W_h h; 1, -) + b, h = o tanh(N(c)),
                                 forget bias 1. GRU: both terms joint over 3H, b in each; z keeps
    tfa                          LSTM: a = N(W_x x) + N(W_h h) + b, c = N(c) fed back, eps 1e-3,
                                 forget bias 1 (TensorFlow Addons)
    tf_contrib                   LSTM: a = N(W [x, h]) for each gate apart, c = N(c) fed back, eps
                                 1e-12, forget bias 1 (TF1 LayerNormBasicLSTMCell)
    icefall                      LSTM: a = N(W_x x + b + W_h h + b') for each gate apart, c = N(c)
                                 fed back. GRU: N for r, z and x_n + r h_n. Gains, biases drawn
    di_engine                    LSTM: a = N(W_x x) + N(W_h h) + b, c without norm
    dreamer                      GRU: a = N(W [h, x]) joint over 3H; n = tanh(r a_n), h = z n +
                                 (1-z) h with z = sigmoid(a_z - 1)
    cooijmans2016                LSTM: as "batch"
    cooijmans2016_sequencewise   LSTM: as "batch", W_x x with statistics over all valid frames
                                 (their BN-e*)
    jihunchoi                    LSTM: as "batch" with a bias in every norm, forget bias 0, W_hh
                                 identity
    laurent2016                  a = BN(W_x x; 1, -) + W_h h + b, over all valid frames (Laurent et
                                 al. 2016, sequence-wise)
    ============================ ===================================================================

    Matrices are drawn as torch draws them, W_hh orthogonal or identity where the publication has it
    so; haste's Xavier W_ih and Cooijmans' initial W are not copied. NeMo's BatchNorm of a layer's
    input before W_ih is ``BatchNorm`` in front of an unnormalised layer. Cells other than LSTM and
    GRU (haste's IndRNN, SpeechBrain's LiGRU, xLSTM's sLSTM, the Elman cell of TensorFlow Addons)
    are not here.

    Args:
        changes: see ``NormScheme.replace``: ``preset("batch", "LSTM", eps=1e-3, max_steps=100)``.

    Raises:
        ValueError: no such name, with the nearest one, or not for this cell.
    """
    if not isinstance(name, str):
        raise TypeError(f"norm must be a name, got {name!r}")
    if name not in PRESETS:
        word = name.lower().removesuffix("norm").strip("_- ")  # "LayerNorm" means "layer"
        if word in ("instance", "group"):
            Norm(word)  # raises, and says why
        hint = " (for no norm write None)" if word in ("none", "") else nearest(word, PRESETS)
        raise ValueError(f"unknown norm {name!r}{hint}; known are {', '.join(PRESETS)}")
    schemes = PRESETS[name]
    choose("cell", cell, CELL_NAMES)
    if cell not in schemes:
        usable = ", ".join(other for other, cells in PRESETS.items() if cell in cells)
        raise ValueError(
            f"norm {name!r} is published for {' and '.join(schemes)}, not for {cell}; "
            f"for {cell} there are {usable}"
        )
    return schemes[cell].replace(**changes)


def resolve(norm: str | NormScheme | None, cell: str) -> NormScheme | None:
    """What ``norm=`` of a layer means: a preset's name, or a scheme.

    Raises:
        ValueError: an unknown name, or a site that this cell does not have.
        TypeError: something else.
    """
    if norm is None:
        return None
    if isinstance(norm, str):
        return preset(norm, cell)
    if isinstance(norm, Norm):
        raise TypeError(
            "a single Norm does not say where it stands, nor with which gain and bias it was "
            f'published there: write preset({norm.kind!r}, "{cell}", eps=...), or a NormScheme'
        )
    if not isinstance(norm, NormScheme):
        raise TypeError(f'norm must be None, a name as "layer", or a NormScheme, got {norm!r}')
    if cell == "LSTM" and norm.update != "keep":
        raise ValueError(
            "update='write' speaks of a GRU's z, and an LSTM has none: leave update=\"keep\""
        )
    if cell != "LSTM" and norm.cell is not None:
        raise ValueError(f"a {cell} has no cell state to normalise: leave cell=None")
    return norm
