"""Kernels with products in bfloat16, against the definition with the same operands rounded.

Rounding is a step function, so operands that differ by an error of float32 may round to different
numbers. The kernels in float64 with rounded operands therefore have the close comparison, and those
in float32, which layers use, a comparison within a few roundings to bfloat16.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    SINGLE_VALUES,
    Call,
    assert_same,
    build,
    each_variant,
    needs_kernels,
    outcome,
    refusal,
    single,
    taken,
)
from hidden_states import as_hx, parts_of
from tolerances import GRADIENTS, assert_close, assert_equal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import seqnorm
from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.backends.cpu.prepared import Prepared
from seqnorm.nn.layers.cells import LAYERS

pytestmark = needs_kernels
BF16 = torch.bfloat16
I, H = 5, 9  # noqa: E741  the axes' letters
LENGTHS = [3, 0, 5, 6, 5]
# Projections and heads have no kernels in bfloat16.
TAKEN = {name: pair for name, pair in taken().items() if pair[0] != "SLSTM"}
Threads = Callable[[int], None]
# For the results of float32 kernels: a rounding to bfloat16 is 2 ** -9 of a value, and one more or
# less in an operand changes all later steps.
FEW_ROUNDINGS = 2.0**-6


class Rounded(torch.autograd.Function):
    """The nearest numbers of bfloat16, with the derivative of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.to(BF16).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@contextmanager
def rounded_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Round the operands of every product of the definition, as autocast does on the kernels."""
    exact = torch.nn.functional.linear

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return exact(Rounded.apply(x), Rounded.apply(weight), bias)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.functional, "linear", linear)
        patched.setattr(cpu, "in_half", lambda rows: True)
        yield


@pytest.mark.parametrize("name", TAKEN)
def test_every_norm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    layer = build(*TAKEN[name], I, H)
    call = Call.draw(layer, LENGTHS)
    plain = outcome(layer, call, "reference")
    with rounded_products(monkeypatch):
        for training in (True, False):
            layer.train(training)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, f"{name}, {training}, {variant}")
    assert float((plain["output"] - expected["output"]).abs().max()) > 1e-6, "nothing was rounded"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["LSTM layer", "GRU layer", "LSTM batch", "RNN None", "LiGRU kinds"]
)
def test_threads_and_sizes(
    name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows or units are divided among threads; few rows are multiplied by unpacked matrices."""
    threads(number)
    for width, hidden, lengths in ((70, 33, [7] * 10), (3, 70, [2, 1, 2]), (130, 40, [60, 50, 60])):
        torch.manual_seed(hidden)
        layer = build(*TAKEN[name], width, hidden)
        call = Call.draw(layer, lengths)
        with rounded_products(monkeypatch):
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, f"{hidden}, {variant}")


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", BF16):
        yield


@pytest.mark.parametrize("cell", [cell for cell in cpu.STEPS if cell != "SLSTM"])
@pytest.mark.parametrize("norm", ["no norm", "layer", "rms", "batch"])
def test_under_autocast(cell: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and results are in float32, and without a gradient the numbers are the same."""
    torch.manual_seed(1)
    layer = build(*TAKEN[f"{cell} {norm}"], I, H)
    call = Call.draw(layer, LENGTHS)
    with rounded_products(monkeypatch):
        expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        with autocast():
            found = outcome(single(layer), call.to(F32))
            with torch.no_grad(), seqnorm.use_backend("cpu"):
                output, _ = single(layer)(
                    call.input.float(), as_hx(call.to(F32).state), lengths=LENGTHS
                )
        assert_equal(output.double(), found["output"], variant)
        for part in ("output", "h_n"):
            assert_close(found[part], expected[part], FEW_ROUNDINGS, f"{part}, {variant}")
        for part, value in expected.items():
            # A norm of nearly equal values amplifies the roundings, in gradients above all.
            assert found[part].shape == value.shape
            apart, size = (found[part] - value).double().norm(), value.double().norm()
            assert float(apart) <= 0.1 * float(size) + FEW_ROUNDINGS, f"{part}, {variant}"


@pytest.mark.parametrize("cell", [cell for cell in cpu.STEPS if cell != "SLSTM"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_dtypes_are_those_of_the_definition(cell: str, norm: str | None) -> None:
    """Results have the dtypes of the initial state, and gradients those of their tensors."""
    for autocasting, weights, given, state in (
        (True, F32, F32, None),
        (True, F32, BF16, None),
        (True, F32, F32, F32),
        (True, BF16, F32, BF16),
        (True, F64, F64, None),
        (False, BF16, BF16, None),
        (False, BF16, BF16, BF16),
    ):
        dtypes = []
        for backend in ("reference", "cpu"):
            torch.manual_seed(2)
            layer = LAYERS[cell](I, H, norm=norm, dtype=weights)
            call = Call.draw(layer, LENGTHS)
            x = call.input.to(given).requires_grad_()
            hx = (
                None if state is None else as_hx([p.to(state).requires_grad_() for p in call.state])
            )
            with seqnorm.use_backend(backend), torch.autocast("cpu", BF16, autocasting):
                output, last = layer(x, hx, lengths=LENGTHS)
            results = (output, *parts_of(last))
            sum(part.double().square().sum() for part in results).backward()
            leaves = [x, *layer.parameters(), *(() if hx is None else parts_of(hx))]
            assert all(leaf.grad is not None for leaf in leaves)
            dtypes.append([part.dtype for part in (*results, *(leaf.grad for leaf in leaves))])
        assert dtypes[0] == dtypes[1]


@pytest.mark.parametrize(
    "name", ["LSTM layer", "GRU None", "RNN layer", "IndRNN layer", "LSTM batch"]
)
def test_gradients_of_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(6)
    layer = build(*TAKEN[name], I, H)
    call = Call.draw(layer, LENGTHS)
    found = []
    with rounded_products(monkeypatch):
        for backend in ("reference", "cpu"):
            x = call.input.clone().requires_grad_()
            with seqnorm.use_backend(backend):
                output, _ = layer(x, lengths=LENGTHS)
            leaves = [x, *layer.parameters()]
            grads = torch.autograd.grad(
                (output * call.cotangents[0]).sum(), leaves, create_graph=True
            )
            loss = sum(grad.square().sum() for grad in grads)
            again = torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)
            found.append([*grads, *again])
    for actual, expected in zip(found[1], found[0]):
        assert_close(actual, expected, 100 * GRADIENTS)


def test_gradients_of_gradients_within_autocast() -> None:
    """The definition in a backward pass is not rounded by autocast again."""
    layer, x = LAYERS["LSTM"](I, H, norm="layer"), torch.randn(6, 3, I, requires_grad=True)
    found = []
    for inside in (False, True):
        with autocast(), seqnorm.use_backend("cpu"):
            output, _ = layer(x)
        with torch.autocast("cpu", BF16, inside):
            (grad,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        found.append(grad)
    assert_equal(found[1], found[0])


@pytest.mark.parametrize("cell", [cell for cell in cpu.STEPS if cell != "SLSTM"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_padding_changes_nothing(cell: str, poison: float) -> None:
    layer = LAYERS[cell](I, H, norm="layer", bidirectional=True)
    x = torch.randn(max(LENGTHS), len(LENGTHS), I)
    alive = torch.arange(max(LENGTHS))[:, None] < torch.tensor(LENGTHS)
    found = []
    for filled in (x, torch.where(alive[..., None], x, poison)):
        with autocast(), seqnorm.use_backend("cpu"):
            output, _ = layer(filled, lengths=LENGTHS)
        grads = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
        found.append((output, *grads))
    for clean, poisoned in zip(*found):
        assert_equal(poisoned, clean)


def test_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers round to the nearest, ties to even; infinity and NaN stay."""
    ties = torch.tensor([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-8 + 2**-20, 3.4e38])
    wide = torch.randn(4000).abs() * 10.0 ** torch.randint(-30, 30, (4000,))
    x = torch.cat([ties, wide, torch.tensor([0.0, 3.4e38, float("inf"), float("nan")])])
    layer = LAYERS["RNN"](1, 1, norm=None, nonlinearity="relu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0.fill_(1.0)
    for variant in each_variant(monkeypatch):
        for rows in (x, x[-4:]):  # a packed matrix, and one that is not
            given, state = rows.view(1, -1, 1), torch.zeros(1, len(rows), 1)
            with autocast(), torch.no_grad(), seqnorm.use_backend("cpu"):
                output, _ = layer(given, state)
            expected = rows.to(BF16).float()
            same = (output.view(-1) == expected) | (output.view(-1).isnan() & expected.isnan())
            assert bool(same.all()), variant


@pytest.mark.skipif(not library.PAIRS, reason="this processor has no products of pairs")
@pytest.mark.parametrize("name", ["LSTM layer", "GRU layer", "RNN None", "LSTM laurent2016"])
def test_pairs(name: str, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of pairs are those of rounded operands. With one step, nothing is rounded twice."""
    monkeypatch.setattr(library, "CHOSEN", "avx512")
    monkeypatch.setattr(cpu, "in_half", lambda rows: True)
    for number, width, hidden in itertools.product((1, 2), (1, 5, 34), (3, 32, 47, 130)):
        threads(number)
        torch.manual_seed(hidden)
        layer = build(*TAKEN[name], width, hidden).eval()
        call = Call.draw(layer, [1] * (9 + width))
        exact = outcome(layer, call)
        for pairs in (True, False):
            monkeypatch.setattr(library, "PAIRS", pairs)
            found = outcome(single(layer), call.to(F32))
            assert_same(found, exact, f"{number}, {width}, {hidden}, {pairs}", F32)


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("cell", [cell for cell in cpu.STEPS if cell != "SLSTM"])
def test_one_step_in_inference(cell: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared calls of layers and cells round as other calls do."""
    made: list[bool] = []
    real = Prepared.run

    def run(*given: Any) -> bool:
        made.append(real(*given))
        return made[-1]

    monkeypatch.setattr(Prepared, "run", run)
    layer = LAYERS[cell](I, H, norm="layer").eval()
    alone = getattr(seqnorm, f"{cell}Cell")(I, H, norm="layer").eval()
    alone.load_state_dict({name.replace("_l0", ""): t for name, t in layer.state_dict().items()})
    x = torch.randn(1, rows, I)
    with torch.no_grad():
        exact, _ = layer(x)
        made.clear()
        for variant in each_variant(monkeypatch):
            with autocast():
                with seqnorm.use_backend("cpu"):
                    expected, _ = layer(x, lengths=[1] * rows)
                assert not made, "lengths need the usual way"
                found, _ = layer(x)
                of_cell = parts_of(alone(x[0]))[0]
            assert made == [True, True]
            made.clear()
            assert_close(found, expected, SINGLE_VALUES, variant)
            assert_close(of_cell, expected[0], SINGLE_VALUES, variant)
            assert float((found - exact).abs().max()) > 1e-5, "nothing was rounded"


class Watching(TorchDispatchMode):
    """A tool that sees every operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_refusals() -> None:
    layer = LAYERS["LSTM"](I, H, norm="layer")
    with torch.autocast("cpu", torch.float16):
        assert "float32, float64 and bfloat16" in str(refusal(layer))
    for weights, given in ((F32, F64), (F64, F32)):
        mixed = LAYERS["LSTM"](I, H, norm="layer", dtype=weights)
        with autocast():
            assert "of one dtype" in str(refusal(mixed, torch.zeros(3, I, dtype=given)))
    assert "of one dtype" in str(refusal(layer, torch.zeros(3, I, dtype=BF16)))
    with autocast():
        assert refusal(layer) is None
        assert refusal(layer, torch.zeros(3, I, dtype=BF16)) is None
    with autocast(), Watching():
        assert "in graphs" in str(refusal(layer))


@pytest.mark.skipif(not cpu.COMPILES, reason="torch 2.3 cannot trace autocast")
def test_a_graph_uses_the_definition() -> None:
    layer, x = LAYERS["GRU"](I, H, norm="layer"), torch.randn(6, 3, I)
    with autocast(), seqnorm.use_backend("reference"):
        expected, _ = layer(x)
    with autocast():
        found, _ = torch.compile(layer, backend="eager")(x)
    assert_close(found, expected, FEW_ROUNDINGS)


@pytest.mark.parametrize(
    "layer", [seqnorm.LSTM(I, H, proj_size=4, norm="layer"), seqnorm.SLSTM(I, H, num_heads=3)]
)
def test_projections_and_heads_take_the_time_loop(layer: Any) -> None:
    """They have no kernel in bfloat16, and a prepared call notices autocast, too."""
    x = torch.randn(3, 2, I)
    with autocast():
        assert "bfloat16" in str(refusal(layer))
    with torch.inference_mode():
        exact = layer(x)[0]
        with autocast():
            found = layer(x)[0]
            with seqnorm.use_backend("reference"):
                expected = layer(x)[0]
    assert_equal(found, expected, "under autocast")
    assert not found.float().equal(exact)


def test_tables_are_not_rounded() -> None:
    """Statistics are float32 numbers also where the input of the layer is in bfloat16."""
    layer = seqnorm.LSTM(I, H, norm="batch_pooled").train()
    x = 50 + torch.randn(6, 4, I)
    layer(x)
    layer.eval()
    x = x.to(BF16)
    with autocast():
        assert_equal(layer(x)[0].float(), layer(x.float())[0].float(), "of both dtypes")
