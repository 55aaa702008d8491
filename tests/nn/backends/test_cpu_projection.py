"""The projection of an LSTM in the kernels: h = W_hr o tanh(N(c)), forward, backward and prepared.

Axes: T steps, B sequences, I = input size, H = hidden size, P = proj_size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import (
    F32,
    F64,
    SINGLE_VALUES,
    Call,
    assert_same,
    assert_single,
    build,
    each_variant,
    needs_kernels,
    outcome,
    ragged,
    single,
    taken,
)
from hidden_states import as_hx
from operators_seen import operators_of
from tolerances import GRADIENTS, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.export import Dim
from torch_versions import needs_compiler

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu.prepared import can_prepare

pytestmark = [needs_kernels, pytest.mark.filterwarnings("ignore:BatchNorm in training")]
I = 5  # noqa: E741  the axis' letter
TAKEN = {name: norm for name, (cell, norm) in taken().items() if cell == "LSTM"}
DEEP = {"num_layers": 2, "bidirectional": True}
# Separate norms, one of the sum, before the kernel, around it, none, and of the batch.
CASES = ["LSTM layer", "LSTM icefall", "LSTM laurent2016", "LSTM outside", "LSTM None"]
CASES += ["LSTM batch", "LSTM batch ends", "LSTM batch sum"]
# H and P around the widths of vectors and panels, which are 2 to 32 reals.
SIZES = [(2, 1), (4, 3), (9, 8), (16, 15), (17, 16), (33, 4), (33, 32), (65, 31), (70, 64)]
SIZES += [(100, 7), (130, 65), (161, 130)]
LENGTHS = [3, 0, 7, 5, 7, 2, 0, 7]
Threads = Callable[[int], None]


def layer_of(norm: Any, H: int, P: int, **options: Any) -> Any:
    return build("LSTM", norm, I, H, proj_size=P, **options)


@pytest.mark.parametrize("name", TAKEN)
def test_every_norm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, and two layers in both directions, in training and in inference."""
    for options in ({}, DEEP):
        layer = layer_of(TAKEN[name], 17, 7, **options)
        call = Call.draw(layer, LENGTHS)
        layer(call.input, lengths=call.lengths)  # update the statistics that inference reads
        for training in (True, False):
            layer.train(training)
            expected = outcome(layer, call, "reference")
            for variant in each_variant(monkeypatch):
                assert_same(outcome(layer, call), expected, variant)
                assert_single(layer, call, expected, variant)


@pytest.mark.parametrize(("H", "P"), SIZES)
def test_sizes(H: int, P: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows, for which no matrix is packed, and many."""
    number = SIZES.index((H, P))
    layer = layer_of(NormScheme(sum=Norm("rms"), cell=Norm("rms", eps=0.1), bias_ih=None), H, P)
    for B, T in ((1, 3), (2, 4), (3 + number, 5), (17, 2)):
        call = Call.draw(layer, ragged(B, T))
        expected = outcome(layer, call, "reference")
        for variant in each_variant(monkeypatch):
            assert_same(outcome(layer, call), expected, f"{B} x {T}, {variant}")
            assert_single(layer, call, expected, f"{B} x {T}, {variant}")


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("name", CASES)
def test_threads(name: str, number: int, threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads divide rows or units. A thread may have no unit."""
    threads(number)
    for H, P, lengths in (
        (7, 3, [4] * 12 + [3] * 9 + [2] * 20 + [1] * 5),
        (37, 20, [4, 5, 1, 5, 0, 3, 5]),
        (230, 3, [3, 2]),
        (230, 160, [3, 1, 2, 2, 3, 2, 2, 3, 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]),
    ):
        layer = layer_of(TAKEN[name], H, P)
        call = Call.draw(layer, lengths)
        expected = outcome(layer, call, "reference")
        for variant in each_variant(monkeypatch):
            assert_same(outcome(layer, call), expected, f"H = {H}, {variant}")
        expected = outcome(layer.eval(), call, "reference")
        with torch.no_grad(), seqnorm.use_backend("cpu"):
            output, _ = layer(call.input, as_hx(call.state), call.lengths)
        assert_close(output, expected["output"], VALUES, f"without gradients, H = {H}")


def test_the_same_every_time(threads: Threads) -> None:
    threads(3)
    for name in CASES:
        layer = layer_of(TAKEN[name], 130, 70)
        call = Call.draw(layer, [4, 2, 4, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
        first = outcome(layer, call)
        for _ in range(3):
            for leaf, value in outcome(layer, call).items():
                assert_equal(value, first[leaf], leaf)


def test_more_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 256 rows, 512 units of r and 240 of h, the blocks of the gradient of W_hr."""
    layer = layer_of("layer", 530, 251)
    call = Call.draw(layer, [9] * 27 + [8, 7, 0, 5, 3, 1])
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("zoneout", [0.3, (0.4, 0.0), (0.0, 0.2), (1.0, 0.5)])
@pytest.mark.parametrize("name", CASES)
def test_zoneout(name: str, zoneout: Any, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds units of h back after the projection."""
    layer = layer_of(TAKEN[name], 21, 9, zoneout=zoneout, **DEEP).train(training)
    call = Call.draw(layer, ragged(9, 5))
    expected = outcome(layer, call, "reference")
    for variant in each_variant(monkeypatch):
        assert_same(outcome(layer, call), expected, variant)


@pytest.mark.parametrize("name", CASES)
def test_without_gradients_the_numbers_are_the_same(name: str) -> None:
    layer = layer_of(TAKEN[name], 17, 6)
    call = Call.draw(layer, [3, 0, 6, 6, 1, 6, 2, 5, 6, 4, 3, 6])
    expected = outcome(layer, call)
    with torch.no_grad(), seqnorm.use_backend("cpu"):
        output, last = layer(call.input, as_hx(call.state), call.lengths)
    for found, which in zip((output, *last), ("output", "h_n", "c_n")):
        assert_equal(found, expected[which], which)


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_alone(name: str) -> None:
    layer = layer_of(TAKEN[name], 9, 4).eval()
    call = Call.draw(layer, LENGTHS)
    expected = outcome(layer, call)
    for leaf, parameter in layer.named_parameters():
        layer.requires_grad_(False)
        parameter.requires_grad_()
        with seqnorm.use_backend("cpu"):
            output, last = layer(call.input, as_hx(call.state), call.lengths)
        pairs = [pair for pair in zip((output, *last), call.cotangents) if pair[0].requires_grad]
        results, cotangents = zip(*pairs)
        (found,) = torch.autograd.grad(results, parameter, cotangents)
        assert_close(found, expected[f"gradient of {leaf}"], SUMS, leaf)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_gradients(name: str) -> None:
    layer = layer_of(TAKEN[name], 9, 4, zoneout=0.3)
    if layer.norm is not None and layer.directions()[0].over_batch:
        layer.eval()
    call = Call.draw(layer, [3, 1, 3])
    leaves = [*layer.parameters()]
    found = []
    for backend in ("reference", "cpu"):
        torch.manual_seed(1)
        with seqnorm.use_backend(backend):
            output, last = layer(call.input, as_hx(call.state), lengths=call.lengths)
            loss = output.sin().sum() + sum(part.cos().sum() for part in last)
            grads = torch.autograd.grad(loss, leaves, create_graph=True)
            penalty = sum(grad.square().sum() for grad in grads)
            found.append((*grads, *torch.autograd.grad(penalty, leaves)))
    for expected, actual in zip(*found):
        assert_close(actual.detach(), expected.detach(), GRADIENTS)


def test_finite_differences() -> None:
    layer = layer_of("layer", 4, 3)
    names = [name for name, _ in layer.named_parameters()]
    state = tuple(torch.randn(1, 3, size, dtype=F64, requires_grad=True) for size in (3, 4))
    x = torch.randn(3, 3, I, dtype=F64, requires_grad=True)

    def function(x: Tensor, h: Tensor, c: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        given = (x, (h, c), [2, 1, 3])
        output, last = torch.func.functional_call(layer, dict(zip(names, parameters)), given)
        return output, *last

    with seqnorm.use_backend("cpu"):
        assert torch.autograd.gradcheck(function, (x, *state, *layer.parameters()), atol=1e-4)


def test_padding_may_hold_anything() -> None:
    for name in CASES:
        layer = layer_of(TAKEN[name], 9, 4)
        call = Call.draw(layer, LENGTHS)
        expected = outcome(layer, call)
        for b, length in enumerate(LENGTHS):
            call.input[length:, b] = torch.nan
        for leaf, found in outcome(layer, call).items():
            assert_equal(found, expected[leaf], leaf)


# Norms outside of the recurrence are computed around the kernel, and a plain layer by torch.
PREPARED = [name for name, norm in TAKEN.items() if can_prepare(layer_of(norm, 4, 3).directions())]


def inferred(layer: Any, *given: Any, backend: str | None = None, **named: Any) -> Any:
    with torch.no_grad():
        if backend is None:
            output, last = layer(*given, **named)
        else:
            with seqnorm.use_backend(backend):
                output, last = layer(*given, **named)
    return output, *last


def prepared(norm: Any, H: int, P: int, **options: Any) -> Any:
    """Return a layer in evaluation, with statistics of some batches in its tables."""
    layer = layer_of(norm, H, P, **options)
    for T in (2, 5):
        inferred(layer, torch.randn(T, 8, I, dtype=F64))
    layer.eval()
    inferred(layer, torch.zeros(1, 1, I, dtype=F64), first_step=0)  # looks at the tables
    return layer


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_calls(name: str, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers on top of one another, a step and several, with a state and without, late steps."""
    for L, zoneout, (H, P) in zip((1, 2, 3), (0.0, 0.3, (0.2, 0.0)), ((5, 3), (33, 8), (40, 33))):
        layer = prepared(TAKEN[name], H, P, num_layers=L, zoneout=zoneout)
        small = single(layer).eval()
        inferred(small, torch.zeros(1, 1, I))
        for T, B, first in ((1, 1, 0), (1, 3, 4), (7, 1, 0), (3, 9, 2)):
            x = torch.randn(T, B, I).to(F64)
            state = tuple(torch.randn(L, B, size).to(F64) for size in (P, H))
            for hx in (None, state):
                expected = inferred(layer, x, hx, backend="reference", first_step=first)
                halved = None if hx is None else tuple(part.to(F32) for part in hx)
                for variant in each_variant(monkeypatch):
                    calls.clear()
                    found = inferred(layer, x, hx, first_step=first)
                    rounded = inferred(small, x.to(F32), halved, first_step=first)
                    assert calls == [T, T], variant
                    for a, b, e in zip(found, rounded, expected):
                        assert_close(a, e, VALUES, variant)
                        assert_close(b.to(F64), e, 8 * SINGLE_VALUES, variant)


def test_prepared_threads_and_forms(threads: Threads, calls: list[int]) -> None:
    """Units of one row are shared; a sequence without a batch, and one of other strides."""
    layer = prepared("layer", 230, 160, num_layers=2)
    for number, shape in itertools.product((1, 2, 3), ((1, 1, I), (4, 1, I), (3, 20, I), (5, I))):
        threads(number)
        for x in (torch.randn(shape, dtype=F64), torch.randn(*shape, 2, dtype=F64)[..., 0]):
            calls.clear()
            found = inferred(layer, x)
            assert calls == [shape[0]]
            for a, e in zip(found, inferred(layer, x, backend="reference")):
                assert a.shape == e.shape
                assert_close(a, e, VALUES)


def test_a_prepared_call_sees_the_projection(calls: list[int]) -> None:
    layer = prepared("layer", 8, 4)
    x = torch.randn(3, 2, I, dtype=F64)
    before = inferred(layer, x)[0]
    for change in (
        lambda: layer.weight_hr_l0.data.mul_(2.0),
        lambda: setattr(layer, "weight_hr_l0", nn.Parameter(torch.randn(4, 8, dtype=F64))),
        lambda: setattr(layer.weight_hr_l0, "data", torch.randn(8, 4, dtype=F64).t()),
    ):
        change()
        found = inferred(layer, x)[0]
        assert_close(found, inferred(layer, x, backend="reference")[0], VALUES)
        assert not torch.allclose(found, before)
        before = found
    assert len(calls) >= 3
    wrong = (torch.zeros(1, 2, 8, dtype=F64), torch.zeros(1, 2, 8, dtype=F64))
    with pytest.raises(RuntimeError, match="Expected hidden"), torch.no_grad():
        layer(x, wrong)


@needs_compiler
@pytest.mark.parametrize("name", ["LSTM layer", "LSTM outside", "LSTM None", "LSTM batch"])
def test_a_graph_in_training(name: str) -> None:
    torch._dynamo.reset()
    layer = layer_of(TAKEN[name], 6, 4, **DEEP)
    x = torch.randn(4, 3, I, dtype=F64, requires_grad=True)
    leaves = [x, *layer.parameters()]
    found = []
    for one in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        output, last = one(x)
        loss = output.sin().sum() + sum(part.cos().sum() for part in last)
        found.append((output, *torch.autograd.grad(loss, leaves)))
    for expected, actual in zip(*found):
        assert_close(actual.detach(), expected.detach(), GRADIENTS)
    torch._dynamo.reset()


class WithLengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = layer_of("layer", 6, 4, batch_first=True, **DEEP)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output: Tensor = self.layer(x, lengths=lengths)[0]
        return output


@needs_compiler
@pytest.mark.parametrize("strict", [True, False])
def test_an_export_for_all_lengths(strict: bool) -> None:
    model = WithLengths()
    inputs = torch.randn(3, 4, I, dtype=F64), torch.tensor([4, 2, 3])
    shapes = ({0: Dim("B"), 1: Dim("T")}, {0: Dim("B")})
    program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=strict)
    assert operators_of(program.graph_module) == ["recurrence"] * 4
    for steps, lengths in ((4, [1, 0, 4]), (9, [7, 2]), (2, [0, 0])):
        given = torch.randn(len(lengths), steps, I, dtype=F64), torch.tensor(lengths)
        assert_close(program.module()(*given), model(*given), VALUES)
