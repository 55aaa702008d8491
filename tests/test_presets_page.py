"""The page on published cells: it names every preset, and its lines bring weights over.

For each original, weights are made up in the shapes that the page states. The functions of
``originals`` and the loops below compute with them as the authors' code does, in its own order of
gates and with its own matrices. A layer that the page's lines have filled has to return the same
numbers.

Axes: T steps, B sequences, I = input size, H = hidden size, P = units of a head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hidden_states import as_hx, parts_of
from originals import ORIGINALS, Weights, fixed
from pages import DOCS, blocks, read, rows
from publications import B, I, State, T
from tolerances import VALUES, assert_close
from torch import Tensor, sigmoid, tanh

import seqnorm
from seqnorm.nn.recurrence.step import STEPS

PAGE = DOCS / "presets.md"
TABLE = rows(read(PAGE).split("## The table")[1].split("## Bringing")[0])
HEADS = 2
SIZES = {"LSTM": 4, "GRU": 4, "RNN": 4, "LiGRU": 4, "IndRNN": 4, "SLSTM": 8}


# Those whose rows or frames are computed together have tests of their own.
TOGETHER = {("cooijmans2016", "LSTM"), ("jihunchoi", "LSTM"), ("xlstm", "SLSTM")}
TOGETHER |= {("nemo_batch", cell) for cell in ("LSTM", "GRU", "RNN")}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the code of the page defines."""
    scope: dict[str, Any] = {}
    exec("\n".join(blocks(PAGE, "python")), scope)
    return scope


def made_up(page: dict[str, Any], preset: str, cell: str) -> Weights:
    """Draw weights of the names and shapes that the page states."""
    H = SIZES[cell]
    sizes = {"I": H if cell == "SLSTM" else I, "H": H, "heads": HEADS, "P": H // HEADS}
    found = {}
    for name, shape in page["LAYOUTS"][preset, cell]["shapes"].items():
        dims = [eval(re.sub(r"(\d)([A-Z])", r"\1*\2", dim), {}, sizes) for dim in shape]
        found[name] = torch.randn(*dims, dtype=torch.float64)
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


def test_orders_and_matrices_of_the_table_are_those_of_the_lines(page: dict[str, Any]) -> None:
    for row in TABLE:
        layout = page["LAYOUTS"].get((row[0].strip("`"), row[1]))
        assert sorted(row[4]) == sorted(STEPS[row[1]].gates)
        if layout is not None:
            assert layout["stacked"] == row[4]
            shapes = {f"({', '.join(shape)})" for shape in layout["shapes"].values()}
            stated = re.findall(r"\([^)]*\)", row[5])
            assert stated
            assert set(stated) <= shapes, row
            steps = layout["parameters"]["weight_ih"][1:]
            assert ("transposed" in row[5]) == ("transposed" in steps), row


def test_every_tensor_of_the_table_is_used(page: dict[str, Any]) -> None:
    for (preset, cell), layout in page["LAYOUTS"].items():
        used = {name for sources, *_ in layout["parameters"].values() for name in sources.split()}
        assert used == set(layout["shapes"]), (preset, cell)


@pytest.mark.parametrize(("preset", "cell"), ORIGINALS)
def test_brings_weights_over(preset: str, cell: str, page: dict[str, Any]) -> None:
    weights = made_up(page, preset, cell)
    layer = filled(page, preset, cell, weights).eval()
    if preset in ("ravanelli2018", "moumen2023"):
        size = 2 * SIZES[cell]
        statistics = {
            "running_mean": torch.randn(size).double(),
            "running_var": torch.rand(size).double() + 0.5,
        }
        weights |= {f"norm.{name}": value for name, value in statistics.items()}
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
    w = made_up(page, "cooijmans2016", "LSTM")
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
    w = made_up(page, "jihunchoi", "LSTM")
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
    w = made_up(page, "nemo_batch", cell)
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
    w = made_up(page, "xlstm", "SLSTM")
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


def test_a_matrix_that_is_not_transposed_is_an_error(page: dict[str, Any]) -> None:
    weights = made_up(page, "haste", "LSTM")
    weights["kernel"] = weights["kernel"].mT
    with pytest.raises(ValueError, match=r"haste: kernel makes weight_ih_l0 .*needs \(16, 3\)"):
        filled(page, "haste", "LSTM", weights)
    weights["kernel"] = torch.randn(3)
    with pytest.raises(ValueError, match=r"kernel must be \('I', '4H'\), got"):
        filled(page, "haste", "LSTM", weights)


def test_a_parameter_without_a_line_is_an_error(page: dict[str, Any]) -> None:
    layouts = page["LAYOUTS"]
    whole = layouts["haste", "LSTM"]
    parameters = {k: v for k, v in whole["parameters"].items() if k != "norm_cell.bias"}
    layouts["haste", "LSTM"] = {**whole, "parameters": parameters}
    try:
        with pytest.raises(ValueError, match=r"nothing was given for \['norm_cell_l0\.bias'\]"):
            filled(page, "haste", "LSTM", made_up(page, "haste", "LSTM"))
    finally:
        layouts["haste", "LSTM"] = whole
