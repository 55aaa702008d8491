"""Padding affects no output, state, gradient or statistic of any layer.

The unmasked computation on ragged data is in test_equations; here a layer is compared with itself,
so every equality that rounding does not touch is exact.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from comparing import BATCHED, DISTINCT, HEADS, LAYERS, STEPS, uncounted_is_meant
from hidden_states import as_hx, draw, parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqnorm.nn.statistics import RunningTable

I, H, T = 3, 4, 7  # noqa: E741 (the axes' letters)
LENGTHS = [3, 6, 0, 2, 6]
POSITIVE = [3, 6, 1, 2, 6]
# Each kind and site of norms once for each cell; test_equations tests the cells themselves.
EVERY = [
    (name, cell)
    for name, cell in DISTINCT
    if cell in ("LSTM", "GRU") or name in ("none", "layer", "batch", "moumen2023", "nemo_batch")
]
OF_ONE_EXAMPLE = [pair for pair in EVERY if pair not in BATCHED]
MODES = ["train", "eval"]


def build(name: str, cell: str, mode: str = "train", **options: Any) -> Any:
    """Build two layers in two directions, with all parameters and tables changed."""
    options = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64} | options
    if cell in HEADS:
        options["num_heads"] = HEADS[cell]
    layer = LAYERS[cell](I, H, norm=None if name == "none" else name, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.6)
        for module in layer.modules():
            if isinstance(module, RunningTable):
                module.running_mean.normal_(0.0, 0.5)
                module.running_var.uniform_(0.3, 2.0)
                module.count[:4] = 8
    uncounted_is_meant()
    return layer.train(mode == "train")


def twin(layer: Any, name: str, cell: str, **options: Any) -> Any:
    """Return another layer in the same state, so that calls update separate tables."""
    other = build(name, cell, "train" if layer.training else "eval", **options)
    other.load_state_dict(layer.state_dict())
    return other


@dataclass
class Result:
    output: Tensor
    states: tuple[Tensor, ...]
    gradients: dict[str, Tensor]
    tables: dict[str, Tensor]


def initial(cell: str, sequences: int, rows: int = 4) -> tuple[Tensor, ...]:
    return draw(cell, rows, sequences, H)


def cotangents_for(cell: str, steps: int, sequences: int) -> tuple[Tensor, ...]:
    """Return cotangents for the output and every part of the state."""
    state = (4, sequences, H)
    output = torch.randn(steps, sequences, 2 * H).double()
    return (output, *(torch.randn(state).double() for _ in STEPS[cell].states))


def run(
    layer: Any,
    input: Tensor,
    states: tuple[Tensor, ...],
    lengths: Any,
    cotangents: tuple[Tensor, ...],
) -> Result:
    input = input.detach().clone().requires_grad_()
    states = tuple(state.detach().clone().requires_grad_() for state in states)
    output, last = layer(input, as_hx(states), lengths=lengths)
    finals = parts_of(last)
    assert len(cotangents) == 1 + len(finals)
    leaves = {"input": input} | {f"state {j}": state for j, state in enumerate(states)}
    leaves |= dict(layer.named_parameters())
    loss = sum((c * v).sum() for c, v in zip(cotangents, (output, *finals)))
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    tables = {name: value.clone() for name, value in layer.named_buffers()}
    return Result(output.detach(), finals, dict(zip(leaves, found)), tables)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e6])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_what_stands_in_the_padding(name: str, cell: str, mode: str, poison: float) -> None:
    layer = build(name, cell, mode)
    other = twin(layer, name, cell)
    input = torch.randn(T, len(LENGTHS), I).double()
    states = initial(cell, len(LENGTHS))
    cotangents = cotangents_for(cell, T, len(LENGTHS))
    padding = torch.ones(T, len(LENGTHS), dtype=torch.bool)
    for b, length in enumerate(LENGTHS):
        padding[:length, b] = False
    clean = run(layer, input.masked_fill(padding[..., None], 0.0), states, LENGTHS, cotangents)
    poisoned = run(
        other, input.masked_fill(padding[..., None], poison), states, LENGTHS, cotangents
    )
    assert_equal(poisoned.output, clean.output, "output")
    assert not poisoned.output[padding].any()
    assert not poisoned.gradients["input"][padding].any()
    assert bool(poisoned.gradients["input"][~padding].all())
    for actual, expected in zip(poisoned.states, clean.states):
        assert_equal(actual, expected, "state")
    for key, expected in clean.gradients.items():
        assert bool(expected.isfinite().all()), key
        assert_equal(poisoned.gradients[key], expected, key)
    for key, expected in clean.tables.items():
        assert bool(expected.isfinite().all()), key
        assert_equal(poisoned.tables[key], expected, key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_more_padding(name: str, cell: str, mode: str) -> None:
    layer = build(name, cell, mode)
    other = twin(layer, name, cell)
    longer = torch.randn(T + 5, len(LENGTHS), I).double()
    states = initial(cell, len(LENGTHS))
    output, *of_states = cotangents_for(cell, T + 5, len(LENGTHS))
    tight = run(layer, longer[:6], states, LENGTHS, (output[:6], *of_states))
    loose = run(other, longer, states, LENGTHS, (output, *of_states))
    assert_equal(loose.output[:6], tight.output)
    assert not loose.output[6:].any()
    for actual, expected in zip(loose.states, tight.states):
        assert_equal(actual, expected)
    assert not loose.gradients["input"][6:].any()
    loose.gradients["input"] = loose.gradients["input"][:6]
    for key, expected in tight.gradients.items():
        assert_equal(loose.gradients[key], expected, key)
    for key, expected in tight.tables.items():
        assert_equal(loose.tables[key], expected, key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_order_of_the_batch(name: str, cell: str, mode: str) -> None:
    """The result of a permuted batch is permuted, and statistics do not depend on the order."""
    layer = build(name, cell, mode)
    other = twin(layer, name, cell)
    input = torch.randn(T, len(LENGTHS), I).double()
    states = initial(cell, len(LENGTHS))
    cotangents = cotangents_for(cell, T, len(LENGTHS))
    order = [4, 2, 0, 3, 1]
    straight = run(layer, input, states, torch.tensor(LENGTHS), cotangents)
    permuted = run(
        other,
        input[:, order],
        tuple(state[:, order] for state in states),
        torch.tensor(LENGTHS)[order],
        tuple(cotangent[:, order] for cotangent in cotangents),
    )
    assert_close(permuted.output, straight.output[:, order], VALUES, "output")
    for actual, expected in zip(permuted.states, straight.states):
        assert_close(actual, expected[:, order], VALUES, "state")
    for key, expected in straight.gradients.items():
        if key == "input" or key.startswith("state"):
            expected = expected[:, order]
        assert_close(permuted.gradients[key], expected, GRADIENTS, key)
    for key, expected in straight.tables.items():
        assert_close(permuted.tables[key], expected, VALUES, key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_one_sequence_at_a_time(name: str, cell: str, mode: str) -> None:
    """If S lies within one example, and always in inference, the batch does not matter."""
    if mode == "train" and (name, cell) not in OF_ONE_EXAMPLE:
        # A norm of the batch does depend on it, which is tested as well.
        layer = build(name, cell)
        input = torch.randn(3, 4, I).double()
        alone = twin(layer, name, cell)(input[:, :2])[0]
        assert (layer(input)[0][:, :2] - alone).abs().max() > 1e-3
        return
    layer = build(name, cell, mode)
    input = torch.randn(T, len(LENGTHS), I).double()
    states = initial(cell, len(LENGTHS))
    cotangents = cotangents_for(cell, T, len(LENGTHS))
    together = run(layer, input, states, LENGTHS, cotangents)
    summed: dict[str, Tensor] = {}
    for b, length in enumerate(LENGTHS):
        alone = (
            run(
                layer,
                input[:length, b : b + 1],
                tuple(state[:, b : b + 1] for state in states),
                None,
                (cotangents[0][:length, b : b + 1], *(c[:, b : b + 1] for c in cotangents[1:])),
            )
            if length
            else None
        )
        if alone is None:
            for actual, state in zip(together.states, states):
                assert_equal(actual[:, b], state[:, b], "state of an empty sequence")
            continue
        assert_close(together.output[:length, b], alone.output[:, 0], VALUES, "output")
        for actual, expected in zip(together.states, alone.states):
            assert_close(actual[:, b], expected[:, 0], VALUES, "state")
        for key, found in alone.gradients.items():
            if key == "input":
                whole = together.gradients[key][:length, b]
                assert_close(whole, found[:, 0], GRADIENTS, key)
            elif key.startswith("state"):
                assert_close(together.gradients[key][:, b], found[:, 0], GRADIENTS, key)
            else:
                summed[key] = summed.get(key, 0.0) + found
    for key, expected in summed.items():
        assert_close(together.gradients[key], expected, GRADIENTS, key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_empty_sequences(name: str, cell: str, mode: str) -> None:
    """They keep their states in every layer and direction, give zeros, and affect no others."""
    layer = build(name, cell, mode)
    other = twin(layer, name, cell)
    lengths = [0, 4, 3, 0, 4, 0]
    input = torch.randn(4, 6, I).double()
    states = initial(cell, 6)
    cotangents = cotangents_for(cell, 4, 6)
    whole = run(layer, input, states, lengths, cotangents)
    empty, full = [0, 3, 5], [1, 2, 4]
    assert not whole.output[:, empty].any()
    for j, (final, state) in enumerate(zip(whole.states, states)):
        assert_equal(final[:, empty], state[:, empty])
        assert_equal(whole.gradients[f"state {j}"][:, empty], cotangents[1 + j][:, empty])
    without = run(
        other,
        input[:, full],
        tuple(state[:, full] for state in states),
        [4, 3, 4],
        tuple(c[:, full] for c in cotangents),
    )
    assert_close(whole.output[:, full], without.output, VALUES)
    for actual, expected in zip(whole.states, without.states):
        assert_close(actual[:, full], expected, VALUES)
    for key, expected in without.tables.items():
        assert_close(whole.tables[key], expected, VALUES, key)


@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_nothing_but_empty_sequences(name: str, cell: str) -> None:
    layer = build(name, cell)
    before = {key: value.clone() for key, value in layer.named_buffers()}
    states = initial(cell, 3)
    result = run(
        layer, torch.randn(5, 3, I).double(), states, [0, 0, 0], cotangents_for(cell, 5, 3)
    )
    assert_equal(result.output, torch.zeros(5, 3, 2 * H).double())
    for actual, expected in zip(result.states, states):
        assert_equal(actual, expected)
    for key, expected in before.items():
        assert_equal(result.tables[key], expected, key)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("enforce_sorted", [False, True], ids=["unsorted", "sorted"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_packed_sequences(
    name: str, cell: str, mode: str, enforce_sorted: bool, batch_first: bool
) -> None:
    layer = build(name, cell, mode, batch_first=batch_first)
    other = twin(layer, name, cell, batch_first=batch_first)
    lengths = sorted(POSITIVE, reverse=True) if enforce_sorted else POSITIVE
    shape = (len(lengths), T, I) if batch_first else (T, len(lengths), I)
    input = torch.randn(shape).double()
    states = initial(cell, len(lengths))
    hx = as_hx(states)
    padded, last = layer(input, hx, lengths=lengths)
    packed = pack_padded_sequence(
        input, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=enforce_sorted
    )
    answer, packed_last = other(packed, hx)
    assert isinstance(answer, PackedSequence)
    assert_equal(answer.batch_sizes, packed.batch_sizes)
    assert (answer.sorted_indices is None) == enforce_sorted
    unpacked, found = pad_packed_sequence(answer, batch_first=batch_first, total_length=T)
    assert found.tolist() == lengths
    assert_close(unpacked, padded, VALUES)
    for actual, expected in zip(parts_of(packed_last), parts_of(last)):
        assert_close(actual, expected, VALUES)
    for (key, actual), expected in zip(other.named_buffers(), layer.buffers()):
        assert_close(actual, expected, VALUES, key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "cell"), EVERY)
def test_forms_of_lengths(name: str, cell: str, mode: str) -> None:
    """Without lengths all have T steps; tensors and lists are equivalent; so is batch_first."""
    layer = build(name, cell, mode)
    input = torch.randn(T, 5, I).double()
    answers = []
    for form in (None, [T] * 5, torch.full((5,), T), torch.full((5,), T, dtype=torch.int32)):
        answers.append(twin(layer, name, cell)(input, lengths=form)[0])
    turned = twin(layer, name, cell, batch_first=True)(input.transpose(0, 1).contiguous())[0]
    answers.append(turned.transpose(0, 1))
    for answer in answers[1:]:
        assert_close(answer, answers[0], VALUES)
