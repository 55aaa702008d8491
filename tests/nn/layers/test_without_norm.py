"""A layer without a norm supports tracers, transforms and devices as one with a norm.

torch's fused layer, which computes most of its calls, does less.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import F64, needs_kernels
from hidden_states import parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torch_versions import needs_compiler, needs_transforms

import seqnorm
from seqnorm.nn.backends.cpu import library

I, H, T, B = 3, 5, 4, 2  # noqa: E741  the axes' letters
KINDS = ["LSTM", "GRU", "RNN"]
NORMS = [None, "layer"]
LENGTHS = [2, 4]
kinds = pytest.mark.parametrize("kind", KINDS)
norms = pytest.mark.parametrize("norm", NORMS)


def build(kind: str, norm: Any, **options: Any) -> Any:
    return getattr(seqnorm, kind)(I, H, norm=norm, **{"dtype": F64} | options)


def draw(steps: int = T, batch: int = B) -> Tensor:
    return torch.randn(steps, batch, I, dtype=F64, requires_grad=True)


def gradients(function: Callable[[Tensor], Tensor], x: Tensor, layer: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(function(x).square().sum(), [x, *layer.parameters()]))


@pytest.fixture(autouse=True)
def forgetting() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# Inductor imports deprecated parts of torch.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@needs_compiler
@pytest.mark.parametrize(
    ("norm", "backend"), [(None, "aot_eager"), ("layer", "aot_eager"), (None, "inductor")]
)
@kinds
def test_compiled_training(kind: str, norm: Any, backend: str) -> None:
    layer, x = build(kind, norm, num_layers=2, bidirectional=True), draw()
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    # Steps without a kernel are unrolled, and their number must be known.
    unrolled = kind == "RNN" or library.LIBRARY is None
    for lengths in (None, torch.tensor(LENGTHS))[: 1 if unrolled else 2]:
        expected = gradients(lambda x: layer(x, lengths=lengths)[0], x, layer)  # noqa: B023
        found = gradients(lambda x: compiled(x, lengths=lengths)[0], x, layer)  # noqa: B023
        for a, e in zip(found, expected):
            assert_close(a, e, GRADIENTS)


# After a graph break, Dynamo reads the gradient of rows, and torch warns of that.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@needs_compiler
@pytest.mark.parametrize(
    ("kind", "norm"), [("LSTM", None), ("LSTM", "layer"), ("GRU", "batch"), ("RNN", None)]
)
def test_compiled_packed_sequences(kind: str, norm: Any) -> None:
    """Training and inference with different lengths, sorted or not."""
    layer = build(kind, norm, bidirectional=True)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    compiled = torch.compile(layer, backend="aot_eager")
    for lengths, training in (([4, 2], True), ([1, 3], False)):
        layer.train(training)
        pack = nn.utils.rnn.pack_padded_sequence
        packed = pack(draw().detach(), lengths, enforce_sorted=False)
        found = []
        for call in (layer, compiled):
            layer.load_state_dict(before)
            output, state = call(packed)
            assert isinstance(output, nn.utils.rnn.PackedSequence)
            padded, counted = nn.utils.rnn.pad_packed_sequence(output)
            assert counted.tolist() == lengths
            grads = torch.autograd.grad(padded.square().sum(), list(layer.parameters()))
            found.append([padded, *parts_of(state), *grads])
        for a, e in zip(*found):
            assert_close(a, e, VALUES)


@needs_kernels
@needs_compiler
@pytest.mark.parametrize("strict", [True, False])
@norms
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_an_export_keeps_its_sizes_open(kind: str, norm: Any, strict: bool) -> None:
    layer = build(kind, norm, batch_first=True)
    T_, B_ = torch.export.Dim("T", min=2, max=100), torch.export.Dim("B", min=2, max=100)
    example = torch.randn(B, T, I, dtype=F64)
    program = torch.export.export(
        layer, (example,), dynamic_shapes=({0: B_, 1: T_},), strict=strict
    )
    for batch, steps in ((B, T), (5, 9), (2, 31)):
        x = torch.randn(batch, steps, I, dtype=F64)
        for a, e in zip(program.module()(x), layer(x)):
            for one, other in zip(parts_of(a), parts_of(e)):
                assert_close(one, other, VALUES)


@needs_compiler
@pytest.mark.parametrize("norm", [None, "layer", "batch", "batch_pooled"])
@pytest.mark.parametrize("kind", [*KINDS, "LiGRU", "IndRNN", "SLSTM"])
def test_an_export_of_any_cell_keeps_its_batch_open(kind: str, norm: Any) -> None:
    options: dict[str, Any] = {"num_heads": 1} if kind == "SLSTM" else {}
    layer = build(kind, norm, bidirectional=True, zoneout=0.1, **options).eval()
    open_batch = {"input": {1: torch.export.Dim("B", min=2, max=100)}}
    x = draw().detach()
    program = torch.export.export(layer, (x,), dynamic_shapes=open_batch, strict=False)
    other = draw(batch=B + 3).detach()
    found, expected = program.module()(other), layer(other)
    assert_close(found[0], expected[0], VALUES)


@needs_transforms
@norms
@kinds
def test_an_ensemble(kind: str, norm: Any) -> None:
    """vmap over the parameters of several models gives the gradients of each."""
    layers = [build(kind, norm) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(layers)
    skeleton, x = copy.deepcopy(layers[0]).to("meta"), draw().detach()

    def loss(parameters: Any, buffers: Any) -> Tensor:
        output = torch.func.functional_call(skeleton, (parameters, buffers), (x,))[0]
        return output.square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(parameters, buffers)
    for k, layer in enumerate(layers):
        layer(x)[0].square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert_close(found[name][k], parameter.grad, GRADIENTS, name)


# Forward mode compiles formulas of torch in a way that torch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@norms
@kinds
def test_derivatives_of_every_kind(kind: str, norm: Any) -> None:
    """Forward mode, per-example gradients, Hessians and others equal the definition's."""
    layer, x = build(kind, norm), draw().detach()

    def loss(x: Tensor) -> Tensor:
        return layer(x)[0].square().sum()

    def penalty() -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        return list(torch.autograd.grad(grad.square().sum(), list(layer.parameters())))

    asked: list[Callable[[], Any]] = [
        lambda: torch.func.jvp(loss, (x,), (x.cos(),)),
        lambda: [torch.func.vmap(torch.func.grad(lambda one: loss(one[:, None])), 1)(x)],
        lambda: [torch.autograd.functional.hessian(loss, x)],
        penalty,
    ]
    for ask in asked:
        with seqnorm.use_backend("reference"):
            expected = ask()
        for a, e in zip(ask(), expected):
            assert_close(a, e, GRADIENTS)


@norms
@kinds
def test_on_meta_and_on_fake_tensors(kind: str, norm: Any) -> None:
    layer = build(kind, norm, device="meta", num_layers=2, bidirectional=True)
    for options in ({}, {"lengths": LENGTHS}):
        output, state = layer(torch.randn(T, B, I, dtype=F64, device="meta"), **options)
        output.sum().backward()
        assert output.is_meta
        assert output.shape == (T, B, 2 * H)
        assert all(part.shape == (4, B, H) for part in parts_of(state))
        assert layer.weight_hh_l1.grad.is_meta
    with FakeTensorMode():
        layer = build(kind, norm)
        output, _ = layer(torch.randn(T, B, I, dtype=F64))
        output.sum().backward()
        assert isinstance(output, FakeTensor)
        assert layer.weight_hh_l0.grad.shape == layer.weight_hh_l0.shape


@pytest.mark.parametrize("recompute", [True, False])
@norms
def test_chunks_on_meta(norm: Any, recompute: bool) -> None:
    layer = build("LSTM", norm, device="meta")
    seqnorm.compute_in_chunks(layer, 2, recompute=recompute)
    output, _ = layer(torch.randn(T, B, I, dtype=F64, device="meta"))
    output.sum().backward()
    assert layer.weight_hh_l0.grad.is_meta


@norms
@kinds
def test_operations_are_counted(kind: str, norm: Any) -> None:
    layer, x = build(kind, norm), draw()
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * T * B * len(layer.weight_hh_l0) * (I + H)


@norms
@kinds
def test_copies_and_parametrisations(kind: str, norm: Any) -> None:
    layer, x = build(kind, norm), draw()
    expected = layer(x)[0]
    for other in (copy.deepcopy(layer), copy.copy(layer)):
        assert_equal(other(x)[0], expected)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    assert_close(layer(x)[0], expected, VALUES)
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh_l0.original1.grad is not None
