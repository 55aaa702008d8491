"""The public cells: stepping over a sequence equals the layer; states, steps and refusals."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from hidden_states import as_hx, draw, parts_of, zeros
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.step import STEPS

I, H, T, B = 3, 8, 4, 6  # noqa: E741  the axes' letters
F64 = torch.float64
PUBLISHED = [(cell, name) for name, cells in seqnorm.PRESETS.items() for cell in cells]
PAIRS = [(cell, None) for cell in LAYERS]
PAIRS += [(cell, name) for cell, name in PUBLISHED if seqnorm.PRESETS[name][cell].output is None]
CLASSES = {name: (layer, getattr(seqnorm, f"{name}Cell")) for name, layer in LAYERS.items()}


def over_time(layer: nn.Module) -> bool:
    return layer.norm is not None and any(norm.over_time for norm in layer.norm.norms.values())


def twins(kind: str, norm: Any, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Return a layer with random gains and biases, and a cell with the same."""
    layer_class, cell_class = CLASSES[kind]
    layer = layer_class(I, H, dtype=F64, norm=norm, **options)
    cell = cell_class(I, H, dtype=F64, norm=norm, **options)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=F64, generator=generator))
    take(cell, layer)
    return layer, cell


def warm(layer: nn.Module) -> None:
    """Fill the running tables with different numbers at every step."""
    layer.train()
    for scale in (1.0, 3.0):
        layer(scale * torch.randn(T, B, I, dtype=F64) + 1.0)


def walk(cell: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    for t, row in enumerate(x):
        state = cell(row, state, first_step=t)
        outputs.append(parts_of(state)[0])
    return torch.stack(outputs), state


def tensors(*results: Any) -> list[Tensor]:
    return [part.reshape(-1, H) for result in results for part in parts_of(result)]


def take(cell: nn.Module, layer: nn.Module) -> None:
    """Copy parameters and tables of a layer into a cell."""
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_stepping_a_cell_is_the_layer(
    kind: str, norm: str | None, training: bool, given: bool
) -> None:
    layer, cell = twins(kind, norm)
    if training and over_time(layer):
        cell.train()
        with pytest.raises(RuntimeError, match=r"train the layer .* eval\(\) mode"):
            cell(torch.zeros(B, I, dtype=F64), first_step=0)
        return
    if not training:
        warm(layer)
        take(cell, layer)
    layer.train(training)
    cell.train(training)
    state = hx = None
    if given:
        parts = draw(kind, B, H)
        state, hx = as_hx(parts), as_hx([part[None] for part in parts])
    x = torch.randn(T, B, I, dtype=F64)
    found = []
    for module, call in ((layer, lambda v: layer(v, hx)), (cell, lambda v: walk(cell, v, state))):
        v = x.clone().requires_grad_()
        results = tensors(*call(v))
        torch.manual_seed(3)
        torch.autograd.backward(results, [torch.randn_like(r) for r in results])
        found.append((results, [v.grad, *(p.grad for p in module.parameters())]))
    (expected, expected_grads), (actual, actual_grads) = found
    assert len(actual) == len(expected) == 1 + len(STEPS[kind].states)
    for a, e in zip(actual, expected):
        assert_close(a, e, VALUES)
    assert len(actual_grads) == len(expected_grads)
    for a, e in zip(actual_grads, expected_grads):
        assert_close(a, e, GRADIENTS)
    for (name, a), (name_of_layer, e) in zip(cell.named_buffers(), layer.named_buffers()):
        assert name_of_layer.replace("_l0", "") == name
        assert_close(a, e, VALUES, name)
    if training and any(name.endswith("count") for name, _ in layer.named_buffers()):
        assert cell.report().rows == {
            name.replace("_l0", ""): rows for name, rows in layer.report().rows.items()
        }
        assert all(sum(rows) == B * T for rows in cell.report().rows.values())


@pytest.mark.parametrize(("kind", "norm"), PAIRS)
def test_unbatched_is_a_batch_of_one(kind: str, norm: str | None) -> None:
    layer, cell = twins(kind, norm)
    warm(layer)
    take(cell, layer)
    cell.eval()
    x = torch.randn(B, I, dtype=F64)
    state = draw(kind, B, H)
    whole = parts_of(cell(x, as_hx(state), first_step=1))
    single = parts_of(cell(x[2], as_hx([part[2] for part in state]), first_step=1))
    from_zero = parts_of(cell(x[2], first_step=1))
    batch = parts_of(cell(x[2:3], as_hx(zeros(kind, 1, H)), first_step=1))
    assert len(single) == len(STEPS[kind].states)
    for one, all_, zero, of_batch in zip(single, whole, from_zero, batch):
        assert one.shape == (H,)
        assert_close(one, all_[2], VALUES)
        assert_close(zero, of_batch[0], VALUES)


@pytest.mark.parametrize("kind", CLASSES)
def test_batch_statistics_need_the_number_of_the_step(kind: str) -> None:
    _, cell = twins(kind, "batch")
    x = torch.randn(B, I, dtype=F64)
    for training in (True, False):
        cell.train(training)
        with pytest.raises(ValueError, match=r"cell\(input, hx, first_step=t\), counting from 0"):
            cell(x)
        with pytest.raises(ValueError, match=r"counts from 0, got -1"):
            cell(x, first_step=-1)
    assert all(sum(rows) == 0 for rows in cell.report().rows.values()), "a refusal writes nothing"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("norm", [None, seqnorm.NormScheme(input=seqnorm.Norm("layer"))])
def test_other_norms_take_a_step_and_ignore_it(kind: str, norm: Any) -> None:
    _, cell = twins(kind, norm)
    x = torch.randn(B, I, dtype=F64)
    for without, with_step in zip(tensors(cell(x)), tensors(cell(x, first_step=700))):
        assert_equal(with_step, without)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_step_writes_its_own_row_of_the_table(kind: str) -> None:
    _, cell = twins(kind, seqnorm.preset("batch", kind, max_steps=6))
    before = copy.deepcopy(cell.state_dict())
    hx = as_hx(draw(kind, B, H))
    cell(torch.randn(B, I, dtype=F64), hx, first_step=4)
    for name, rows in cell.report().rows.items():
        assert rows == (0, 0, 0, 0, B, 0), name
    kept = [0, 1, 2, 3, 5]
    for name, value in cell.state_dict().items():
        if "running" in name:
            assert_equal(value[kept], before[name][kept], name)
            assert not torch.equal(value[4], before[name][4]), name
    cell(torch.randn(B, I, dtype=F64), hx, first_step=6)  # past the table: nothing to write
    assert all(sum(rows) == B for rows in cell.report().rows.values())


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("step", [1.5, "1", True])
def test_a_step_is_an_integer(kind: str, step: Any) -> None:
    _, cell = twins(kind, "batch")
    with pytest.raises(TypeError, match=r"step.*int"):
        cell(torch.randn(B, I, dtype=F64), first_step=step)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_norm_of_the_output_is_the_layers_alone(kind: str) -> None:
    """A cell refuses a preset or scheme with such a norm, and the message names the layer."""
    published = [(cell, name) for cell, name in PUBLISHED if cell == kind]
    schemes: list[Any] = [name for cell, name in published if (cell, name) not in PAIRS]
    norms = (seqnorm.Norm("rms"), seqnorm.Norm("batch"), seqnorm.Norm("batch_pooled"))
    schemes += [seqnorm.NormScheme(output=norm) for norm in norms]
    layer_class, cell_class = CLASSES[kind]
    for scheme in schemes:
        layer_class(I, H, norm=scheme)
        with pytest.raises(ValueError, match=rf"use the layer \(seqnorm\.{kind}\).*output=None"):
            cell_class(I, H, norm=scheme)


def test_some_preset_has_a_norm_of_the_output() -> None:
    """Such presets exist, and are left out above."""
    assert {pair for pair in PUBLISHED if pair not in PAIRS} == {
        ("SLSTM", "layer"),
        ("SLSTM", "rms"),
        ("SLSTM", "xlstm"),
    }


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("frame", ["layer", "rms", "batch", "batch_pooled"])
@pytest.mark.parametrize("kind", ["RNN", "SLSTM"])
def test_stepping_over_normed_frames_is_the_layer(kind: str, frame: str, training: bool) -> None:
    """A norm before W_ih, of the step's own rows, beside one inside the recurrence."""
    scheme = seqnorm.NormScheme(frame=seqnorm.Norm(frame), hidden=seqnorm.Norm("batch"))
    layer, cell = twins(kind, scheme)
    warm(layer)
    take(cell, layer)
    layer.train(training)
    cell.train(training)
    x = torch.randn(T, B, I, dtype=F64)
    if training and frame == "batch_pooled":
        with pytest.raises(RuntimeError, match=rf"train the layer \(seqnorm\.{kind}\)"):
            walk(cell, x, None)
        return
    (expected, final), (found, state) = layer(x), walk(cell, x, None)
    assert_close(found, expected, VALUES)
    for a, e in zip(parts_of(state), parts_of(final)):
        assert_close(a, e[0], VALUES)
    for (name, a), (_, e) in zip(cell.named_buffers(), layer.named_buffers()):
        assert_close(a, e, VALUES, name)


def test_states_of_another_dimension_are_named() -> None:
    """The message explains a state of the right batch size but another rank."""
    x = torch.zeros(I)
    with pytest.raises(RuntimeError, match=r"1D|1-D|unbatched"):
        seqnorm.GRUCell(I, H)(x, torch.zeros(1, H))
    with pytest.raises(ValueError, match="hx must hold 2 states, got 1"):
        seqnorm.LSTMCell(I, H)(x, (torch.zeros(H),))


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if len(STEPS[kind].states) > 1])
def test_a_cell_of_several_states_refuses_a_lone_tensor(kind: str) -> None:
    cell = CLASSES[kind][1](I, H)
    states = ", ".join(STEPS[kind].states)
    with pytest.raises(TypeError, match=rf"{kind}Cell: hx must be a tuple \({states}\), got one"):
        cell(torch.zeros(B, I), torch.zeros(B, H))
    with pytest.raises(ValueError, match=f"must hold {len(STEPS[kind].states)} states, got 3"):
        cell(torch.zeros(B, I), (torch.zeros(B, H),) * 3)


def test_batch_of_one_warns_once() -> None:
    _, cell = twins("LSTM", "batch")
    x = torch.randn(1, I, dtype=F64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            cell(x, first_step=step)
    assert len(caught) == 1
    assert "BatchNorm in training" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [{}, {"max_steps": 2}, {"min_count": 3}, {"max_steps": 3, "momentum": None}],
    ids=["too few rows", "past the table", "three rows", "cumulative"],
)
@pytest.mark.parametrize("kind", CLASSES)
def test_stepping_ragged_rows_is_the_layer(kind: str, options: dict[str, Any]) -> None:
    """Steps that read the table find the updates of the steps before."""
    scheme = seqnorm.preset("batch", kind, **options)
    layer, cell = twins(kind, scheme)
    lengths = [4, 3, 1, 1]
    for _ in range(2):
        x = torch.randn(4, 4, I, dtype=F64)
        output, _ = layer(x, lengths=lengths)
        state = None
        for t, alive in enumerate([4, 2, 2, 1]):
            if state is not None:
                state = as_hx([part[:alive] for part in parts_of(state)])
            state = cell(x[t, :alive], state, first_step=t)
            assert_close(parts_of(state)[0], output[t, :alive], VALUES, f"step {t}")
    for (name, a), (_, e) in zip(cell.named_buffers(), layer.named_buffers()):
        assert_close(a, e, VALUES, name)


def test_a_cell_with_pooled_input_reads_one_row_at_every_step() -> None:
    scheme = seqnorm.preset("cooijmans2016_sequencewise", "LSTM", beyond="error")
    layer, cell = twins("LSTM", scheme)
    warm(layer)
    take(cell, layer)
    layer.eval()
    cell.eval()
    x = torch.randn(T, B, I, dtype=F64)
    assert_close(walk(cell, x, None)[0], layer(x)[0], VALUES)


@pytest.mark.parametrize(
    ("kind", "option", "values"),
    [
        *((kind, "nonlinearity", ("tanh", "relu")) for kind in ("RNN", "IndRNN", "LiGRU")),
        ("SLSTM", "num_heads", (1, 2, 4)),
    ],
)
def test_representations_tell_options_apart(kind: str, option: str, values: tuple[Any]) -> None:
    for cls in CLASSES[kind]:
        shown = {repr(cls(I, H, **{option: value})) for value in values}
        assert len(shown) == len(values), shown
