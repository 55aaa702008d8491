"""The page on published cells: it names every preset, and its lines bring weights over.

For each original, weights are made up in the shapes that the page states. A function below computes
with them as the authors' code does, in its own order of gates and with its own matrices; none of
these functions reads the tables of the page. A layer that the page's lines have filled has to
return the same numbers.

Axes: T steps, B sequences, I = input size, H = hidden size, P = units of a head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hidden_states import as_hx, parts_of
from pages import DOCS, blocks, read, rows
from publications import B, I, N, State, T
from tolerances import VALUES, assert_close
from torch import Tensor, sigmoid, tanh

import seqnorm
from seqnorm.nn.recurrence.step import STEPS

PAGE = DOCS / "presets.md"
TABLE = rows(read(PAGE).split("## The table")[1].split("## Bringing")[0])
HEADS = 2
SIZES = {"LSTM": 4, "GRU": 4, "RNN": 4, "LiGRU": 4, "IndRNN": 4, "SLSTM": 8}
Weights = dict[str, Tensor]
Step = Callable[[Weights, Tensor, State], State]


def gates(value: Tensor, count: int = 4) -> Sequence[Tensor]:
    return value.chunk(count)


def lstm(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor, norm: Any, fed: bool) -> State:
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    seen = norm(c)
    return sigmoid(o) * tanh(seen), seen if fed else c


def kiros_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    given = N(x @ w["W"] + w["b"], w["s1"], w["b1"])
    i, f, o, g = gates(N(h @ w["U"], w["s2"], w["b2"]) + given + w["b"])
    return lstm(i, f, g, o, c, lambda c: N(c, w["s3"], w["b3"]), False)


def kiros_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    a = N(x @ w["W"] + w["b"], w["s1"], w["b1"]) + N(h @ w["U"], w["s3"], w["b3"])
    r, u = (sigmoid(part) for part in gates(a, 2))
    new = N(x @ w["Wx"] + w["bx"], w["s2"], w["b2"])
    new = tanh(N(h @ w["Ux"], w["s4"], w["b4"]) * r + new)
    return (u * h + (1 - u) * new,)


def kiros_lua(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def layer(n: int) -> Tensor:
        of_x = w[f"i2h.{n}.weight"] @ x + w[f"i2h.{n}.bias"]
        return of_x + w[f"h2h.{n}.weight"] @ h + w[f"h2h.{n}.bias"]

    def norm(c: Tensor) -> Tensor:
        centred = c - c.mean()
        std = (centred**2).mean().sqrt()
        return w["ln.weight"] * centred / (std + 1e-5) + w["ln.bias"]

    return lstm(layer(0), layer(1), layer(3), layer(2), c, norm, False)


def custom_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(w["weight_ih"] @ x, w["layernorm_i.weight"], w["layernorm_i.bias"])
    a = a + N(w["weight_hh"] @ h, w["layernorm_h.weight"], w["layernorm_h.bias"])
    i, f, g, o = gates(a)
    return lstm(i, f, g, o, c, lambda c: N(c, w["layernorm_c.weight"], w["layernorm_c.bias"]), True)


def haste_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(x @ w["kernel"], w["gamma"][0]) + N(h @ w["recurrent_kernel"], w["gamma"][1])
    i, g, f, o = gates(a + w["bias"])
    return lstm(i, f, g, o, c, lambda c: N(c, w["gamma_h"], w["beta_h"]), False)


def haste_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    vx = gates(N(x @ w["kernel"], w["gamma"][0]) + w["bias"], 3)
    vh = gates(N(h @ w["recurrent_kernel"], w["gamma"][1]) + w["recurrent_bias"], 3)
    z, r = sigmoid(vx[0] + vh[0]), sigmoid(vx[1] + vh[1])
    return (z * h + (1 - z) * tanh(vx[2] + r * vh[2]),)


def haste_indrnn(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    return (tanh(N(x @ w["kernel"], w["gamma"]) + w["bias"] + w["recurrent_scale"] * h),)


def tfa_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    z = N(x @ w["kernel"], w["kernel_norm/gamma"], w["kernel_norm/beta"], 1e-3)
    z = z + N(h @ w["recurrent_kernel"], w["recurrent_norm/gamma"], w["recurrent_norm/beta"], 1e-3)
    i, f, g, o = gates(z + w["bias"])
    last = w["state_norm/gamma"], w["state_norm/beta"]
    return lstm(i, f, g, o, c, lambda c: N(c, *last, 1e-3), True)


def tfa_rnn(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    net = N(x @ w["kernel"] + h @ w["recurrent_kernel"], w["layernorm/gamma"])
    return (tanh(net + w["bias"]),)


def tf1_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def norm(value: Tensor, scope: str) -> Tensor:
        return N(value, w[f"{scope}/gamma"], w[f"{scope}/beta"], 1e-12)

    i, j, f, o = gates(torch.cat([x, h]) @ w["kernel"])
    i, j, f, o = norm(i, "input"), norm(j, "transform"), norm(f, "forget"), norm(o, "output")
    return lstm(i, f + 1.0, j, o, c, lambda c: norm(c, "state"), True)


def icefall_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state

    def norm(value: Tensor, name: str) -> Tensor:
        return N(value, w[f"layernorm_{name}.weight"], w[f"layernorm_{name}.bias"])

    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = (norm(part, name) for part, name in zip(gates(a), ("i", "f", "cx", "o")))
    return lstm(i, f, g, o, c, lambda c: norm(c, "cy"), True)


def icefall_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state

    def norm(value: Tensor, name: str) -> Tensor:
        return N(value, w[f"layernorm_{name}.weight"], w[f"layernorm_{name}.bias"])

    x_r, x_i, x_n = gates(w["weight_ih"] @ x + w["bias_ih"], 3)
    h_r, h_i, h_n = gates(w["weight_hh"] @ h + w["bias_hh"], 3)
    r, z = sigmoid(norm(x_r + h_r, "r")), sigmoid(norm(x_i + h_i, "i"))
    n = tanh(norm(x_n + r * h_n, "n"))
    return ((1 - z) * n + z * h,)


def di_engine_lstm(w: Weights, x: Tensor, state: State) -> State:
    h, c = state
    a = N(x @ w["wx.0"], w["norm.0.weight"], w["norm.0.bias"])
    a = a + N(h @ w["wh.0"], w["norm.1.weight"], w["norm.1.bias"]) + w["bias"][0]
    i, f, o, u = gates(a)
    return lstm(i, f, u, o, c, lambda c: c, False)


def sheeprl_gru(w: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    a = N(w["linear.weight"] @ torch.cat([h, x]), w["layer_norm.weight"], w["layer_norm.bias"])
    reset, cand, update = gates(a, 3)
    cand, update = tanh(sigmoid(reset) * cand), sigmoid(update - 1)
    return (update * cand + (1 - update) * h,)


def ligru(w: Weights, given: Tensor, h: Tensor, stable: bool) -> State:
    product = w["u.weight"] @ h
    a, z = gates(given + (N(product, 1.0) if stable else product), 2)
    z = sigmoid(z)
    return (z * h + (1 - z) * torch.relu(a),)


def ligru_layer(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, N(w["w.weight"] @ x, w["norm.weight"], w["norm.bias"]), state[0], False)


def fixed(w: Weights, name: str, value: Tensor, suffix: str = "") -> Tensor:
    """BatchNorm in inference, with running statistics."""
    mean, var = w[f"{name}.running_mean{suffix}"], w[f"{name}.running_var{suffix}"]
    value = (value - mean) / torch.sqrt(var + 1e-5) * w[f"{name}.weight"]
    return value + w[f"{name}.bias"]


def ligru_batch(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, fixed(w, "norm", w["w.weight"] @ x), state[0], False)


def sligru_batch(w: Weights, x: Tensor, state: State) -> State:
    return ligru(w, fixed(w, "norm", w["w.weight"] @ x), state[0], True)


ORIGINALS: dict[tuple[str, str], Step] = {
    ("kiros2016", "LSTM"): kiros_lstm,
    ("kiros2016", "GRU"): kiros_gru,
    ("kiros_torch", "LSTM"): kiros_lua,
    ("fastrnns", "LSTM"): custom_lstm,
    ("nemo", "LSTM"): custom_lstm,
    ("haste", "LSTM"): haste_lstm,
    ("haste", "GRU"): haste_gru,
    ("haste", "IndRNN"): haste_indrnn,
    ("tfa", "LSTM"): tfa_lstm,
    ("tfa", "RNN"): tfa_rnn,
    ("tf_contrib", "LSTM"): tf1_lstm,
    ("icefall", "LSTM"): icefall_lstm,
    ("icefall", "GRU"): icefall_gru,
    ("di_engine", "LSTM"): di_engine_lstm,
    ("dreamer", "GRU"): sheeprl_gru,
    ("layer", "LiGRU"): ligru_layer,
    ("ravanelli2018", "LiGRU"): ligru_batch,
    ("moumen2023", "LiGRU"): sligru_batch,
}
# Those whose rows or frames are computed together have tests of their own.
TOGETHER = {("cooijmans2016", "LSTM"), ("jihunchoi", "LSTM"), ("xlstm", "SLSTM")}
TOGETHER |= {("nemo_batch", cell) for cell in ("LSTM", "GRU", "RNN")}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the code of the page defines."""
    scope: dict[str, Any] = {}
    exec("\n".join(blocks(PAGE, "python")), scope)
    return scope


def made_up(preset: str, cell: str) -> Weights:
    """Draw weights of the names and shapes in the page's table."""
    (row,) = [row for row in TABLE if row[:2] == [f"`{preset}`", cell]]
    H = SIZES[cell]
    sizes = {"I": H if cell == "SLSTM" else I, "H": H, "heads": HEADS, "P": H // HEADS}
    found = {}
    for name, shape in re.findall(r"`([^`]+)` \(([^)]*)\)", row[5]):
        dims = [eval(re.sub(r"(\d)([A-Z])", r"\1*\2", dim), {}, sizes) for dim in shape.split(",")]
        value = torch.randn(*dims, dtype=torch.float64)
        found[name] = value.abs() + 0.5 if name.endswith("running_var") else value
    return found


def filled(page: dict[str, Any], preset: str, cell: str, weights: Weights, **options: Any) -> Any:
    """Return a layer that the page's lines have filled, with NaN where they left anything out."""
    size = SIZES[cell]
    inputs = size if cell == "SLSTM" else I
    layer = getattr(seqnorm, cell)(inputs, size, norm=preset, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(torch.nan)
    page["bring_over"](layer, preset, weights)
    return layer


def inputs_and_states(cell: str, parts: int) -> tuple[Tensor, list[Tensor]]:
    size = SIZES[cell]
    x = torch.randn(T, B, size if cell == "SLSTM" else I).double()
    return x, [torch.randn(B, size).double() for _ in range(parts)]


def check(layer: Any, x: Tensor, states: list[Tensor], wanted: Sequence[Tensor]) -> None:
    output, last = layer(x, as_hx([state[None] for state in states]))
    for expected, actual in zip(wanted, (output, *(part[0] for part in parts_of(last)))):
        assert_close(actual, expected, VALUES)


def test_the_table_names_every_preset_of_every_cell() -> None:
    found = [(row[0].strip("`"), row[1]) for row in TABLE]
    assert len(set(found)) == len(found)
    there = {(name, cell) for cell in SIZES for name in STEPS[cell].presets}
    there |= {(name, cell) for name, cells in seqnorm.PRESETS.items() for cell in cells}
    assert set(found) == {(name, cell) for name, cell in there if cell in SIZES}


def test_every_original_with_weights_has_lines_and_a_test(page: dict[str, Any]) -> None:
    published = {(row[0].strip("`"), row[1]) for row in TABLE if row[5] != "-"}
    assert published == set(page["LAYOUTS"]) == set(ORIGINALS) | TOGETHER


def test_the_orders_of_the_table_are_those_of_the_lines(page: dict[str, Any]) -> None:
    for row in TABLE:
        layout = page["LAYOUTS"].get((row[0].strip("`"), row[1]))
        assert sorted(row[4]) == sorted(STEPS[row[1]].gates)
        if layout is not None:
            assert layout["stacked"] == row[4]


def test_every_tensor_of_the_table_is_used(page: dict[str, Any]) -> None:
    for (preset, cell), layout in page["LAYOUTS"].items():
        used = {name for sources, *_ in layout["parameters"].values() for name in sources.split()}
        stated = {name for name in made_up(preset, cell) if "running" not in name}
        assert used == stated, (preset, cell)


@pytest.mark.parametrize(("preset", "cell"), ORIGINALS)
def test_brings_weights_over(preset: str, cell: str, page: dict[str, Any]) -> None:
    weights = made_up(preset, cell)
    layer = filled(page, preset, cell, weights).eval()
    if "norm.running_mean" in weights:
        statistics = {k.removeprefix("norm."): v for k, v in weights.items() if "running" in k}
        page["adopt_frames"](layer.norm_ih_l0.table, statistics)
    x, states = inputs_and_states(cell, 2 if cell == "LSTM" else 1)
    outputs, finals = [], []
    for b in range(B):
        state: State = tuple(part[b] for part in states)
        rows_of_b = []
        for x_t in x[:, b]:
            state = ORIGINALS[preset, cell](weights, x_t, state)
            rows_of_b.append(state[0])
        outputs.append(torch.stack(rows_of_b))
        finals.append(state)
    wanted = (torch.stack(outputs, 1), *(torch.stack(parts) for parts in zip(*finals)))
    check(layer, x, states, wanted)


def bn(rows: Tensor, gain: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    mean = sum(rows) / len(rows)
    var = sum((rows - mean) ** 2) / len(rows)
    return gain * (rows - mean) / torch.sqrt(var + 1e-5) + bias


def test_brings_cooijmans_over(page: dict[str, Any]) -> None:
    """Compare in training, with the statistics of the batch."""
    w = made_up("cooijmans2016", "LSTM")
    layer = filled(page, "cooijmans2016", "LSTM", w)
    x, states = inputs_and_states("LSTM", 2)
    h, c = states
    outputs = []
    for x_t in x:
        a = bn(h @ w["Wa"], w["bn_a.gammas"], w["bn_a.betas"]) + bn(x_t @ w["Wx"], w["bn_b.gammas"])
        g, f, i, o = a.chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(bn(c, w["bn_c.gammas"], w["bn_c.betas"]))
        outputs.append(h)
    check(layer, x, states, (torch.stack(outputs), h, c))


def test_brings_jihunchoi_over_with_its_statistics(page: dict[str, Any]) -> None:
    """Compare in inference, one step longer than the statistics of training."""
    w = made_up("jihunchoi", "LSTM")
    for name, size in (("bn_ih", 16), ("bn_hh", 16), ("bn_c", 4)):
        for step in range(T - 1):
            w[f"{name}.running_mean_{step}"] = torch.randn(size).double()
            w[f"{name}.running_var_{step}"] = torch.rand(size).double() + 0.5
    layer = filled(page, "jihunchoi", "LSTM", w).eval()
    page["adopt_jihunchoi"](layer, w, T - 1)
    x, states = inputs_and_states("LSTM", 2)
    h, c = states
    outputs = []
    for t, x_t in enumerate(x):
        at = f"_{min(t, T - 2)}"
        a = fixed(w, "bn_hh", h @ w["weight_hh"], at) + fixed(w, "bn_ih", x_t @ w["weight_ih"], at)
        f, i, o, g = (a + w["bias"]).chunk(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(fixed(w, "bn_c", c, at))
        outputs.append(h)
    check(layer, x, states, (torch.stack(outputs), h, c))


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_brings_nemo_over(cell: str, page: dict[str, Any]) -> None:
    """Compare with torch's layer after torch's BatchNorm1d, in inference."""
    w = made_up("nemo_batch", cell)
    layer = filled(page, "nemo_batch", cell, w).eval()
    norm = torch.nn.BatchNorm1d(I).double().eval()
    norm.running_mean, norm.running_var = torch.randn(I).double(), torch.rand(I).double() + 0.5
    page["adopt_frames"](layer.norm_frame_l0.table, norm.state_dict())
    own = {name.removeprefix("bn.module."): v for name, v in w.items() if name.startswith("bn")}
    norm.load_state_dict(own, strict=False)
    rnn = getattr(torch.nn, cell)(I, SIZES[cell], bias=False).double()
    rnn.load_state_dict(
        {name.removeprefix("rnn."): v for name, v in w.items() if name.startswith("rnn")}
    )
    x, states = inputs_and_states(cell, 2 if cell == "LSTM" else 1)
    frames = norm(x.flatten(0, 1)).unflatten(0, (T, B))
    output, last = rnn(frames, as_hx([state[None] for state in states]))
    check(layer, x, states, (output, *(part[0] for part in parts_of(last))))


@pytest.mark.parametrize("backend", ["vanilla", "cuda"])
def test_brings_xlstm_over(backend: str, page: dict[str, Any]) -> None:
    w = made_up("xlstm", "SLSTM")
    given = dict(w)
    kernel, bias = w["slstm_cell._recurrent_kernel_"], w["slstm_cell._bias_"]
    H, P = SIZES["SLSTM"], SIZES["SLSTM"] // HEADS
    if backend == "cuda":  # undone as the page says
        heads = HEADS
        stored = kernel.mT
        of_heads = bias.unflatten(0, (4, heads, -1)).transpose(0, 1).flatten()
        given["slstm_cell._recurrent_kernel_"] = stored.mT
        given["slstm_cell._bias_"] = of_heads.unflatten(0, (heads, 4, -1)).transpose(0, 1).flatten()
    layer = filled(page, "xlstm", "SLSTM", given, num_heads=HEADS)
    x, _ = inputs_and_states("SLSTM", 0)

    def headwise(name: str, x_t: Tensor) -> Tensor:
        parts = x_t.unflatten(-1, (HEADS, -1))
        return torch.einsum("bhd,hod->bho", parts, w[f"{name}.weight"]).flatten(1)

    y = c = n = m = torch.zeros(B, H).double()
    outputs = []
    for x_t in x:
        # The projection named fgate comes first, where the cell reads its input gate.
        given_x = torch.cat([headwise(f"{name}gate", x_t) for name in "fizo"], 1)
        of_heads = y.unflatten(1, (HEADS, 1, P)).matmul(kernel.transpose(1, 2))
        product = of_heads.unflatten(-1, (4, P)).squeeze(2).transpose(1, 2).flatten(1)
        i, f, z, o = (given_x + product + bias).chunk(4, 1)
        kept = F.logsigmoid(f) + m
        largest = i if not n.any() else torch.maximum(i, kept)
        write, keep = torch.exp(i - largest), torch.exp(kept - largest)
        c, n, m = keep * c + write * tanh(z), keep * n + write, largest
        y = sigmoid(o) * c / n
        outputs.append(y)
    weight = 1.0 + w["group_norm.weight"]
    flat = torch.stack(outputs).flatten(0, 1)
    wanted = F.group_norm(flat, HEADS, weight, None, 1e-5).unflatten(0, (T, B))
    output, last = layer(x)
    assert_close(output, wanted, VALUES)
    assert_close(last[0][0], y, VALUES)


def test_a_parameter_without_a_line_is_an_error(page: dict[str, Any]) -> None:
    layouts = page["LAYOUTS"]
    whole = layouts["haste", "LSTM"]
    parameters = {k: v for k, v in whole["parameters"].items() if k != "norm_cell.bias"}
    layouts["haste", "LSTM"] = {**whole, "parameters": parameters}
    try:
        with pytest.raises(ValueError, match=r"nothing was given for \['norm_cell_l0\.bias'\]"):
            filled(page, "haste", "LSTM", made_up("haste", "LSTM"))
    finally:
        layouts["haste", "LSTM"] = whole
