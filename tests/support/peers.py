"""Every cell of another library whose weights seqnorm takes over: shapes, and the original.

Axes: T steps, B sequences, I = input size, H = hidden size, P = H / 2, units of a head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import originals_plain as plain
import torch
from hidden_states import as_hx, parts_of
from originals import ORIGINALS, Step, Weights
from publications import B, I, State, T
from torch import Tensor

import seqnorm

H, HEADS = 4, 2


class Peer(NamedTuple):
    """A cell of a library.

    Attributes:
        norm: the norm of our layer.
        shapes: the names and shapes of the tensors, as "kernel I,4H bias 4H".
        step: the original's step; ``None`` for those that have tests of their own.
    """

    source: str
    cell: str
    norm: Any
    shapes: str
    step: Step | None

    @property
    def name(self) -> str:
        norm = self.norm if isinstance(self.norm, (str, type(None))) else "scheme"
        return f"{self.source}-{self.cell}-{norm}{'-gates' * ('ii/' in self.shapes)}"

    def sizes(self) -> tuple[int, int]:
        """Return I and H; an sLSTM has blocks, and as many inputs as units."""
        return (8, 8) if self.cell == "SLSTM" else (I, H)

    def layer(self, *sizes: int, cls: str = "", **options: Any) -> Any:
        """Return a layer of ours with NaN in all parameters, in inference."""
        if self.cell == "SLSTM":
            options["num_heads"] = HEADS
        made = getattr(seqnorm, cls or self.cell)
        layer = made(*(sizes or self.sizes()), norm=self.norm, dtype=torch.float64, **options)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(torch.nan)
        return layer.eval()

    def weights(self, inputs: int | None = None, steps: int = T - 1) -> Weights:
        """Draw weights of the stated names and shapes; "{step}" stands for several steps."""
        i, h = self.sizes()
        letters = {"I": i if inputs is None else inputs, "H": h, "P": h // HEADS}
        found = {}
        for name, shape in zip(*[iter(self.shapes.split())] * 2):
            dims = [
                eval(re.sub(r"(\d)([A-Z])", r"\1*\2", dim), {}, letters) for dim in shape.split(",")
            ]
            for step in range(steps if "{step}" in name else 1):
                value = torch.randn(*dims, dtype=torch.float64)
                value = value.abs() + 0.5 if "running_var" in name else value
                found[name.format(step=step)] = value
        return found

    def run(self, w: Weights, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        """Return outputs (T, B, H) and final states (B, H) of the original, row by row."""
        assert self.step is not None
        outputs, finals = [], []
        for b in range(x.shape[1]):
            state: State = tuple(part[b] for part in states)
            rows = []
            for x_t in x[:, b]:
                state = self.step(w, x_t, state)
                rows.append(state[0])
            outputs.append(torch.stack(rows))
            finals.append(state)
        return [torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*finals))]

    def draw(self) -> tuple[Tensor, list[Tensor]]:
        """Draw inputs (T, B, I) and the parts (B, H) of a state."""
        i, h = self.sizes()
        parts = 2 if self.cell == "LSTM" else 1
        x = torch.randn(T, B, i, dtype=torch.float64)
        return x, [torch.randn(B, h, dtype=torch.float64) for _ in range(parts)]


def run_ours(layer: Any, x: Tensor, states: list[Tensor]) -> list[Tensor]:
    """Return outputs (T, B, H) and final states (B, H) of a layer."""
    output, last = layer(x, as_hx([state[None] for state in states]))
    return [output, *(part[0] for part in parts_of(last))]


TORCH = "weight_ih {g}H,I weight_hh {g}H,H bias_ih {g}H bias_hh {g}H"
HASTE = "kernel I,{g}H recurrent_kernel H,{g}H bias {g}H"
AFFINE = "{name}.weight {n} {name}.bias {n}"
STATISTICS = "{name}.running_mean{end} {n} {name}.running_var{end} {n}"
NORMED_LSTM = "weight_ih 4H,I weight_hh 4H,H " + " ".join(
    AFFINE.format(name=f"layernorm_{name}", n=n)
    for name, n in (("i", "4H"), ("h", "4H"), ("c", "H"))
)
KIROS_LUA = " ".join(
    f"{name}.{number}.weight H,{columns} {name}.{number}.bias H"
    for name, columns in (("i2h", "I"), ("h2h", "H"))
    for number in range(4)
)
GAMMA_BETA = "{name}/gamma {n} {name}/beta {n}"


def gamma_beta(sizes: dict[str, str]) -> str:
    return " ".join(GAMMA_BETA.format(name=name, n=n) for name, n in sizes.items())


def layer_norms(*names: str) -> str:
    return " ".join(AFFINE.format(name=f"layernorm_{name}", n="H") for name in names)


LIGRU = "w.weight 2H,I u.weight 2H,H " + AFFINE.format(name="norm", n="2H")
LIGRU_BATCH = f"{LIGRU} " + STATISTICS.format(name="norm", n="2H", end="")
JIHUNCHOI = "weight_ih I,4H weight_hh H,4H bias 4H"
JIHUNCHOI_BATCH = " ".join(
    [JIHUNCHOI]
    + [
        f"{AFFINE} {STATISTICS}".format(name=name, n=n, end="_{step}")
        for name, n in (("bn_ih", "4H"), ("bn_hh", "4H"), ("bn_c", "H"))
    ]
)
LINEN_LSTM = " ".join(f"i{g}/kernel I,H h{g}/kernel H,H h{g}/bias H" for g in "ifgo")
LINEN_GRU = " ".join(f"i{g}/kernel I,H i{g}/bias H h{g}/kernel H,H" for g in "rzn") + " hn/bias H"
RETURNN = "W_ff I,4H W_re H,4H gamma_new_c H beta_new_c H"


def _peers() -> Iterator[Peer]:
    of = ORIGINALS
    cells = {
        "LSTM": (4, plain.torch_lstm),
        "GRU": (3, plain.torch_gru),
        "RNN": ("", plain.torch_rnn),
    }
    for cell, (count, step) in cells.items():
        yield Peer("torch", cell, None, TORCH.format(g=count), step)
        if cell != "RNN":
            yield Peer("torchrl", cell, None, TORCH.format(g=count), step)
        frames = AFFINE + " " + STATISTICS
        frames = frames.format(name="bn.module", n="I", end="")
        matrices = f"rnn.weight_ih_l0 {count}H,I rnn.weight_hh_l0 {count}H,H"
        yield Peer("nemo", cell, "nemo_batch", f"{frames} {matrices}", plain.nemo_frames(cell))
    for source in ("fastrnns", "nemo"):
        yield Peer(source, "LSTM", source, NORMED_LSTM, of[source, "LSTM"])
        yield Peer(source, "LSTM", None, TORCH.format(g=4), plain.torch_lstm)
    lstm, gru = HASTE.format(g=4), HASTE.format(g=3) + " recurrent_bias 3H"
    indrnn = "kernel I,H recurrent_scale H bias H"
    cell_norm = "gamma 2,4H gamma_h H beta_h H"
    yield Peer("haste", "LSTM", "haste", f"{lstm} {cell_norm}", of["haste", "LSTM"])
    yield Peer("haste", "LSTM", None, lstm, plain.haste_lstm)
    yield Peer("haste", "GRU", "haste", f"{gru} gamma 2,3H", of["haste", "GRU"])
    yield Peer("haste", "GRU", None, gru, plain.haste_gru)
    yield Peer("haste", "IndRNN", "haste", f"{indrnn} gamma H", of["haste", "IndRNN"])
    yield Peer("haste", "IndRNN", None, indrnn, plain.haste_indrnn)
    lstm, gru = "kernel I+H,4H bias 4H", "kernel I+H,3H bias 6H"
    yield Peer("haste_tf", "LSTM", "haste", f"{lstm} {cell_norm}", plain.haste_tf_norm_lstm)
    yield Peer("haste_tf", "LSTM", None, lstm, plain.haste_tf_lstm)
    yield Peer("haste_tf", "GRU", "haste", f"{gru} gamma 2,3H", plain.haste_tf_norm_gru)
    yield Peer("haste_tf", "GRU", None, gru, plain.haste_tf_gru)
    norms = gamma_beta({"kernel_norm": "4H", "recurrent_norm": "4H", "state_norm": "H"})
    yield Peer("tfa", "LSTM", "tfa", f"{HASTE.format(g=4)} {norms}", of["tfa", "LSTM"])
    rnn = HASTE.format(g="") + " layernorm/gamma H"
    yield Peer("tfa", "RNN", "tfa", rnn, of["tfa", "RNN"])
    scopes = ("input", "transform", "forget", "output", "state")
    norms = gamma_beta(dict.fromkeys(scopes, "H"))
    tf1 = of["tf_contrib", "LSTM"]
    yield Peer("tf_contrib", "LSTM", "tf_contrib", f"kernel I+H,4H {norms}", tf1)
    yield Peer("tf_contrib", "LSTM", None, "kernel I+H,4H bias 4H", plain.tf1_basic)
    yield Peer("keras", "LSTM", None, HASTE.format(g=4), plain.keras_lstm)
    gru = "kernel I,3H recurrent_kernel H,3H bias 2,3H"
    yield Peer("keras", "GRU", None, gru, plain.keras_gru)
    yield Peer("keras", "RNN", None, HASTE.format(g=""), plain.keras_rnn)
    yield Peer("flax", "LSTM", None, LINEN_LSTM, plain.linen_lstm)
    yield Peer("flax", "GRU", None, LINEN_GRU, plain.linen_gru)
    yield Peer("flax", "RNN", None, "i/kernel I,H i/bias H h/kernel H,H", plain.linen_simple)
    dense = "dense_i/kernel I,{g}H dense_h/kernel H,{g}H dense_{bias}/bias {g}H"
    yield Peer("flax_nnx", "LSTM", None, dense.format(g=4, bias="h"), plain.nnx_optimized)
    by_gate = LINEN_LSTM.replace("if/", "if_/")
    yield Peer("flax_nnx", "LSTM", None, by_gate, plain.nnx_lstm)
    yield Peer("flax_nnx", "GRU", None, dense.format(g=3, bias="i"), plain.nnx_gru)
    yield Peer("flax_nnx", "RNN", None, dense.format(g="", bias="i"), plain.nnx_simple)
    kiros = "W I,4H U H,4H b 4H s1 4H b1 4H s2 4H b2 4H s3 H b3 H"
    yield Peer("kiros", "LSTM", "kiros2016", kiros, of["kiros2016", "LSTM"])
    kiros = "W I,2H b 2H U H,2H Wx I,H Ux H,H bx H s1 2H b1 2H s2 H b2 H s3 2H b3 2H s4 H b4 H"
    yield Peer("kiros", "GRU", "kiros2016", kiros, of["kiros2016", "GRU"])
    lua = f"{KIROS_LUA} {AFFINE.format(name='ln', n='H')}"
    yield Peer("kiros_lua", "LSTM", "kiros_torch", lua, of["kiros_torch", "LSTM"])
    yield Peer("jihunchoi", "LSTM", "jihunchoi", JIHUNCHOI_BATCH, None)
    yield Peer("jihunchoi", "LSTM", None, JIHUNCHOI, plain.jihunchoi_plain)
    for norm, shapes in (
        ("layer", LIGRU),
        ("ravanelli2018", LIGRU_BATCH),
        ("moumen2023", LIGRU_BATCH),
    ):
        yield Peer("speechbrain", "LiGRU", norm, shapes, of[norm, "LiGRU"])
    lstm = f"{TORCH.format(g=4)} {layer_norms('i', 'f', 'cx', 'o', 'cy')}"
    yield Peer("icefall", "LSTM", "icefall", lstm, of["icefall", "LSTM"])
    gru = f"{TORCH.format(g=3)} {layer_norms('r', 'i', 'n')}"
    yield Peer("icefall", "GRU", "icefall", gru, of["icefall", "GRU"])
    below = "gamma_input_below 4H beta_input_below 4H gamma_state_below 4H"
    yield Peer("returnn", "LSTM", "returnn", f"{RETURNN} {below}", plain.returnn_global)
    by_gate = " ".join(f"gamma_{g}_gate H beta_{g}_gate H" for g in "ijfo")
    yield Peer("returnn", "LSTM", "tf_contrib", f"{RETURNN} {by_gate}", plain.returnn_gates)
    norms = " ".join(AFFINE.format(name=f"norm.{k}", n="4H") for k in range(2))
    di_engine = f"wx.0 I,4H wh.0 H,4H bias 1,4H {norms}"
    yield Peer("di_engine", "LSTM", "di_engine", di_engine, of["di_engine", "LSTM"])
    sheeprl = "linear.weight 3H,H+I " + AFFINE.format(name="layer_norm", n="3H")
    yield Peer("sheeprl", "GRU", "dreamer", sheeprl, of["dreamer", "GRU"])
    cooijmans = "Wx I,4H Wa H,4H bn_a.gammas 4H bn_a.betas 4H bn_b.gammas 4H bn_c.gammas H"
    yield Peer("cooijmans", "LSTM", "cooijmans2016", f"{cooijmans} bn_c.betas H", None)
    projections = " ".join(f"{gate}gate.weight 2,P,P" for gate in "fizo")
    xlstm = f"{projections} slstm_cell._recurrent_kernel_ 2,4P,P slstm_cell._bias_ 4H"
    yield Peer("xlstm", "SLSTM", "xlstm", f"{xlstm} group_norm.weight H", None)


PEERS = list(_peers())
