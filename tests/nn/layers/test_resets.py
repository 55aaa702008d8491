"""Resets inside sequences, compared with a loop that masks the state before each step.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from comparing import (
    DISTINCT,
    HEADS,
    LENGTHS,
    SHAPES,
    Case,
    build,
    compare,
    randomise,
    scheme_of,
)
from hidden_states import as_hx, parts_of
from tolerances import CUT, GRADIENTS, assert_close, assert_equal
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqnorm

T, B, I, H = 7, 5, 3, 4  # noqa: E741 (the axes' letters)
PAIRS = [
    pytest.param(name, cell, shape, id=f"{name}-{cell}-{shape}")
    for name, cell in DISTINCT
    for shape in SHAPES
    if (cell == "LSTM" or shape not in ("projected", "all")) and shape != "two_layers"
]


def drawn(probability: float = 0.4) -> Tensor:
    """Draw resets (T, B); those in the padding have no effect."""
    return torch.rand(T, B) < probability


def case_of(layer: Any, states: str, first: bool) -> Case:
    """Draw a call with resets, and with steps before it if statistics count steps."""
    case = Case.draw(layer, states)
    case.resets = drawn()
    if layer.counts_steps and states != "none":
        numbers = torch.randint(0, 4, (B,)).tolist() if first else [0] * B
        case.first_step = [0] * B if layer.bidirectional else numbers
    return case


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "cell", "shape"), PAIRS)
def test_against_oracle(name: str, cell: str, shape: str, mode: str) -> None:
    scheme = scheme_of(name, cell)
    layer = build(cell, scheme, **SHAPES[shape])
    randomise(layer)
    layer.train(mode == "train")
    pooled = [norm.over_time for norm in scheme.norms.values()] if scheme is not None else []
    compare(
        layer, scheme, case_of(layer, "random", not (layer.training and any(pooled))), values=CUT
    )


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SLSTM"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("states", ["none", "random"])
def test_sequences_begin_with_learned_states(cell: str, norm: str, states: str) -> None:
    scheme = scheme_of(norm, cell)
    shape = {"bidirectional": True, "num_layers": 2, "learn_initial_state": True}
    layer = build(cell, scheme, **shape)
    randomise(layer)
    compare(layer, scheme, case_of(layer, states, False), values=CUT)
    case = Case.draw(layer, states)
    compare(layer, scheme, case, values=CUT)  # without resets


def test_zoneout_of_inference() -> None:
    layer = build("LSTM", scheme_of("layer", "LSTM"), zoneout=(0.3, 0.2))
    randomise(layer)
    compare(layer.eval(), layer.norm, case_of(layer, "random", False), layer.zoneout)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("name", "cell"), [("layer", "GRU"), ("batch", "LSTM"), ("rms", "LSTM")])
def test_chunks(name: str, cell: str, recompute: bool) -> None:
    layer = build(cell, scheme_of(name, cell), num_layers=2)
    randomise(layer)
    seqnorm.compute_in_chunks(layer, 2, recompute=recompute)
    compare(layer, scheme_of(name, cell), case_of(layer, "random", True))


class Results:
    """Everything that a call computes, with gradients of random cotangents."""

    def __init__(self, layer: Any, seed: int, call: Any, *leaves: Tensor) -> None:
        layer = copy.deepcopy(layer)
        output, last = call(layer)
        torch.manual_seed(seed)
        values = [output.data if hasattr(output, "batch_sizes") else output, *parts_of(last)]
        loss = sum((value * torch.randn(value.shape).double()).sum() for value in values[1:])
        loss = loss + values[0].square().sum()  # whatever the order of its rows
        self.values = values
        parameters = list(layer.parameters())
        self.gradients = torch.autograd.grad(loss, [*parameters, *leaves], materialize_grads=True)
        self.tables = [t for name, t in layer.state_dict().items() if "table" in name]

    def assert_like(self, other: Results, output: bool = True) -> None:
        for one, two in zip(self.values[not output :], other.values[not output :]):
            assert_close(one, two, CUT)
        for one, two in zip(self.gradients, other.gradients):
            assert_close(one, two, GRADIENTS)
        for one, two in zip(self.tables, other.tables):
            assert_close(one, two, CUT if one.is_floating_point() else 0.0)


NAMES = ["none", "layer", "batch", "batch_pooled"]


def normed(name: str, **options: Any) -> Any:
    layer = build("LSTM", scheme_of(name, "LSTM"), **options)
    randomise(layer)
    return layer


@pytest.mark.parametrize("name", NAMES)
def test_forms_of_the_input(name: str) -> None:
    """One batch gives the same results in every form of input and resets."""
    layer = normed(name, bidirectional=True, num_layers=2)
    first = copy.deepcopy(layer)
    first.batch_first = True
    lengths, resets = torch.tensor([6, 2, 4, 1]), torch.rand(6, 4) < 0.4
    x = torch.randn(6, 4, I).double().requires_grad_()
    right = Results(layer, 1, lambda one: one(x, None, lengths, resets=resets), x)
    assert_equal(right.values[0][2:, 1], torch.zeros(4, 2 * H).double())

    other = Results(first, 1, lambda one: one(x.transpose(0, 1), None, lengths, resets=resets.T), x)
    assert_close(other.values[0].transpose(0, 1), right.values[0], CUT)
    other.assert_like(right, output=False)

    def packed() -> PackedSequence:
        return pack_padded_sequence(x, lengths, enforce_sorted=False)

    flags = pack_padded_sequence(resets[..., None], lengths, enforce_sorted=False)
    rows = pack_padded_sequence(right.values[0], lengths, enforce_sorted=False).data
    for given in (flags.data[:, 0], flags._replace(data=flags.data[:, 0])):
        other = Results(layer, 1, lambda one, given=given: one(packed(), resets=given), x)
        assert_close(other.values[0], rows, CUT)
        other.assert_like(right, output=False)

    def flat(each: Tensor) -> Tensor:
        return torch.cat([each[:n, b] for b, n in enumerate(lengths)])

    bounds = [0, 6, 8, 12, 13]
    for given in (bounds, torch.tensor(bounds, dtype=torch.int32)):
        call = lambda one, given=given: one(flat(x), resets=flat(resets), cu_seqlens=given)  # noqa: E731  short
        other = Results(layer, 1, call, x)
        assert_close(other.values[0], flat(right.values[0]), CUT)
        other.assert_like(right, output=False)


@pytest.mark.parametrize("name", NAMES)
def test_one_sequence_without_a_batch(name: str) -> None:
    layer = normed(name).eval()
    x, resets = torch.randn(T, I).double(), torch.rand(T) < 0.4
    output, last = layer(x, resets=resets)
    right, final = layer(x[:, None], resets=resets[:, None])
    assert_equal(output, right[:, 0])
    for one, two in zip(last, final):
        assert_equal(one, two[:, 0])


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_padding_and_its_resets_are_not_read(poison: float) -> None:
    layer = normed("batch", num_layers=2)
    x, lengths = torch.randn(T, B, I).double(), torch.tensor(LENGTHS)
    resets = drawn()
    beyond = torch.arange(T)[:, None] >= lengths
    right = Results(layer, 1, lambda one: one(x, None, lengths, resets=resets & ~beyond))
    spoilt = x.masked_fill(beyond[..., None], poison)
    other = Results(layer, 1, lambda one: one(spoilt, None, lengths, resets=resets | beyond))
    for one, two in zip([*right.values, *right.gradients], [*other.values, *other.gradients]):
        assert_equal(two, one)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_before_a_reset_do_not_matter(name: str, bidirectional: bool) -> None:
    """A sequence that is cut is two sequences, with the state given to each end."""
    layer = normed(name, bidirectional=bidirectional).eval()
    x = torch.randn(6, 1, I).double()
    resets = torch.zeros(6, 1, dtype=torch.bool)
    resets[[0, 4]] = True
    numbers = torch.zeros(1, dtype=torch.int64)
    directions = 1 + bidirectional
    hx = tuple(torch.randn(directions, 1, H).double() for _ in "hc")
    output, (h, c) = layer(x, hx, resets=resets, first_step=numbers)
    mine = [part.clone() for part in hx]
    for part in mine:
        part[0] = 0.0
    zero = [torch.zeros_like(part) for part in hx]
    early = layer(x[:4], tuple(zero))
    late = layer(x[4:], tuple(mine))
    assert_close(output[:4], early[0], CUT)
    assert_close(output[4:], late[0], CUT)
    for part, one, two in zip((h, c), early[1], late[1]):
        assert_close(part[0], two[0], CUT)
        if bidirectional:
            assert_close(part[1], one[1], CUT)


@pytest.mark.parametrize("name", NAMES)
def test_calls_one_after_another(name: str) -> None:
    """Parts of sequences with the numbers of their steps equal the whole."""
    layer = normed(name).eval()
    x, resets = torch.randn(T, B, I).double(), drawn(0.3)
    output, last = layer(x, resets=resets)
    state, parts, numbers = None, [], torch.zeros(B, dtype=torch.int64)
    for begin, end in ((0, 2), (2, 3), (3, T)):
        part, state = layer(x[begin:end], state, resets=resets[begin:end], first_step=numbers)
        numbers = seqnorm.steps_since_reset(resets[begin:end], numbers)
        parts.append(part)
    assert_close(torch.cat(parts), output, CUT)
    for one, two in zip(state or (), last):
        assert_close(one, two, CUT)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", "LiGRU", "IndRNN", "SLSTM"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("learned", [False, True])
def test_cells(cell: str, norm: Any, learned: bool) -> None:
    """One step of the cell is one step of the layer."""
    if cell == "SLSTM" and norm == "layer":
        norm = seqnorm.NormScheme(input=seqnorm.Norm("layer"))  # a cell has no norm of its output
    options: dict[str, Any] = {"num_heads": HEADS[cell]} if cell in HEADS else {}
    options |= {"norm": norm, "dtype": torch.float64, "learn_initial_state": learned}
    layer = getattr(seqnorm, cell)(I, H, **options)
    randomise(layer)
    single = getattr(seqnorm, f"{cell}Cell")(I, H, **options)
    state = {name.replace("_l0", ""): value for name, value in layer.state_dict().items()}
    for letter in layer.step.learned if learned else "":
        state[f"{letter}_0"] = state[f"{letter}_0"][0]
    single.load_state_dict(state)
    for training in (False, True):
        layer.train(training), single.train(training)
        x = torch.randn(B, I).double().requires_grad_()
        hx = [part[0].requires_grad_() for part in Case.draw(layer).states or ()]
        resets, numbers = (
            torch.tensor([True, False, True, False, False]),
            torch.tensor([3, 1, 2, 3, 1]),
        )
        for given in (hx, []):
            new = parts_of(single(x, as_hx(given), numbers, resets=resets))
            of_layer = as_hx([part[None] for part in given])
            _, last = layer(x[None], of_layer, resets=resets[None], first_step=numbers)
            right = [part[0] for part in parts_of(last)]
            cotangents = [torch.randn_like(part) for part in right]
            found = []
            for results, module in ((new, single), (right, layer)):
                loss = sum((a * b).sum() for a, b in zip(results, cotangents))
                leaves = [x, *given, *module.parameters()]
                found.append(torch.autograd.grad(loss, leaves, materialize_grads=True))
            for one, two in zip(new, right):
                assert_close(one, two, CUT)
            for one, two in zip(*found):
                assert_close(one, two.reshape(one.shape), GRADIENTS)
        for (name, one), two in zip(single.state_dict().items(), layer.state_dict().values()):
            if "table" in name:
                assert_close(one, two, CUT if one.is_floating_point() else 0.0, name)


@pytest.mark.parametrize("norm", [None, "layer", "batch_pooled"])
def test_acting_takes_the_prepared_call(norm: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resets before the first step only exchange the state."""
    from seqnorm.nn.backends.cpu import library, prepared

    layer = seqnorm.LSTM(I, H, norm=norm, learn_initial_state=True).eval()
    randomise(layer)
    x, hx = torch.randn(1, B, I), tuple(torch.randn(1, B, H) for _ in "hc")
    resets = torch.tensor([[True, False, True, False, False]])
    right = layer(x, hx, resets=resets)  # with gradients
    calls: list[int] = []
    run = prepared.Prepared.run
    monkeypatch.setattr(
        prepared.Prepared, "run", lambda self, *args: calls.append(1) or run(self, *args)
    )
    with torch.no_grad():
        layer(x, hx)  # looks at the tables
        calls.clear()
        found = layer(x, hx, resets=resets)
        fresh = layer(x)
    if library.LIBRARY is not None and norm is not None:
        assert len(calls) == 2
    for one, two in zip([found[0], *found[1]], [right[0], *right[1]]):
        assert_close(one, two.detach(), 1e-6)
    for one, two in zip([fresh[0], *fresh[1]], [layer(x)[0], *layer(x)[1]]):
        assert_close(one, two.detach(), 1e-6)


@pytest.mark.parametrize("name", ["none", "layer", "batch"])
def test_compiled(name: str) -> None:
    """A graph break around the layer, and no compilation for each pattern of resets."""
    torch._dynamo.reset()
    layer = normed(name).eval()
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()

    @torch.compile(backend=counter)
    def call(x: Tensor, resets: Tensor) -> Tensor:
        output, _ = layer(2.0 * x, resets=resets)
        return torch.tanh(output)

    graphs = []
    for _ in range(4):
        x, resets = torch.randn(T, B, I).double(), drawn()
        with torch.no_grad():
            right = torch.tanh(layer(2.0 * x, resets=resets)[0])
            assert_close(call(x, resets), right, CUT)
        graphs.append(counter.frame_count)
    assert graphs == graphs[:1] * 4
    assert graphs[0] <= 3  # before and after the layer; torch 2.3 has one more


def test_a_learned_state_always_has_a_gradient() -> None:
    """As processes wait for, which average gradients."""
    layer = seqnorm.LSTM(I, H, norm="layer", learn_initial_state=True)
    zeros = (torch.zeros(1, B, H), torch.zeros(1, B, H))
    output, _ = layer(torch.zeros(T, B, I), zeros, resets=torch.zeros(T, B, dtype=torch.bool))
    output.sum().backward()
    assert layer.h_0.grad is not None
    assert not layer.h_0.grad.any()


@pytest.mark.parametrize("norm", [None, "layer"])
def test_autocast_keeps_the_dtype_of_a_state(norm: str | None) -> None:
    layer = seqnorm.LSTM(I, H, norm=norm)
    hx = tuple(torch.zeros(1, B, H).bfloat16() for _ in "hc")
    found = set()
    for resets in (drawn(0.0), drawn(1.1), drawn()):
        with torch.autocast("cpu", torch.bfloat16):
            output, (h, c) = layer(torch.zeros(T, B, I), hx, resets=resets)
        found.add((output.dtype, h.dtype, c.dtype))
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's forward mode uses it
@pytest.mark.parametrize("form", ["padded", "one after another"])
def test_derivatives(form: str) -> None:
    """First and second, backwards, and first ones forwards."""
    layer = seqnorm.GRU(2, 3, norm="layer", dtype=torch.float64)
    resets = torch.tensor([[0, 1], [1, 0], [0, 0]], dtype=torch.bool)

    def call(x: Tensor) -> Tensor:
        if form == "padded":
            return layer(x, resets=resets)[0]
        return layer(x.reshape(6, 2), resets=resets.reshape(6), cu_seqlens=[0, 2, 6])[0]

    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    with seqnorm.use_backend("reference"):
        torch.autograd.gradcheck(call, (x,), check_forward_ad=True)
        torch.autograd.gradgradcheck(call, (x,))
