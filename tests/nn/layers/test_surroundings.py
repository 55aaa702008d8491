"""The context of a call does not matter: default devices, inference mode, lazy views of tensors.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from beside_reference import F64
from comparing import DISTINCT, HEADS, randomise, scheme_of
from comparing import build as built
from hidden_states import as_hx, of_layer, parts_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

I, H, T, B = 3, 4, 6, 3  # noqa: E741  the axes' letters
LENGTHS = [4, 6, 2]
# Every cell with every way to compute a layer: a norm of rows, of the batch, and no norm.
KINDS = [
    (name, cell)
    for name, cell in DISTINCT
    if name in ("none", "layer", "batch", "batch_pooled", "xlstm", "moumen2023")
]


def build(name: str, cell: str, **options: Any) -> Any:
    layer = built(cell, scheme_of(name, cell), **options)
    randomise(layer)
    return layer


def everything(call: Callable[[], Any], leaves: list[Tensor]) -> list[Tensor]:
    """Return outputs and states of a call, and the gradients of their squares."""
    output, states = call()
    rows = output.data if isinstance(output, PackedSequence) else output
    results = [rows, *parts_of(states)]
    loss = sum(result.square().sum() for result in results)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [*results, *(grad for grad in grads if grad is not None)]


def forms(layer: Any, x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return calls of a layer by the form of their input."""
    packed = pack_padded_sequence(x.detach(), LENGTHS, enforce_sorted=False)
    return {
        "padded": lambda: layer(x),
        "lengths": lambda: layer(x, lengths=LENGTHS),
        "lengths in a tensor": lambda: layer(x, lengths=torch.tensor(LENGTHS, device="cpu")),
        "packed": lambda: layer(packed),
    }


@pytest.mark.parametrize(("name", "cell"), KINDS)
def test_the_default_device_is_not_that_of_a_call(name: str, cell: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "zoneout": 0.3, "dropout": 0.2}
    layer = build(name, cell, **options)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    leaves, state = [x, *layer.parameters()], layer.state_dict()
    kept = {key: value.clone() for key, value in state.items()}
    for form, call in forms(layer, x).items():
        found = []
        for device in ("cpu", "meta"):
            layer.load_state_dict(kept)
            torch.manual_seed(7)
            with torch.device(device):
                found.append(everything(call, leaves))
        for a, e in zip(*found):
            assert_equal(a, e, f"{form} {name} {cell}")


@pytest.mark.parametrize("cell", LAYERS)
def test_the_default_device_of_cells_chunks_and_tables(cell: str) -> None:
    """A call without gradients takes working memory, which must not be on ``meta``."""
    options = {"num_heads": HEADS[cell]} if cell in HEADS else {}
    layer = LAYERS[cell](I, H, norm="batch", **options)
    chunked = LAYERS[cell](I, H, norm="layer", **options)
    seqnorm.compute_in_chunks(chunked, 2, recompute=True)
    one = getattr(seqnorm, f"{cell}Cell")(I, H, norm="batch", **options)
    x = torch.randn(T, B, I)
    with torch.device("meta"):
        with torch.no_grad():
            assert layer(x)[0].device.type == "cpu"
            assert layer.eval()(x, lengths=LENGTHS)[0].device.type == "cpu"
        output, _ = chunked(x.requires_grad_())
        output.sum().backward()
        assert x.grad is not None
        assert parts_of(one(x[0], first_step=0))[0].device.type == "cpu"
        assert str(layer.report())


@pytest.mark.parametrize(
    "module",
    [
        lambda: seqnorm.LayerNorm(I, layout="NTC"),
        lambda: seqnorm.RMSNorm(I, layout="NTC"),
        lambda: seqnorm.InstanceNorm(I, layout="NTC"),
        lambda: seqnorm.BatchNorm(I, layout="NTC"),
        lambda: seqnorm.BatchNorm(I, layout="NTC", max_steps=4),
        lambda: seqnorm.GroupNorm(1, I, layout="NTC"),
    ],
)
def test_the_default_device_of_norms(module: Callable[[], nn.Module]) -> None:
    norm, x = module(), torch.randn(B, T, I)
    for training in (True, False):
        norm.train(training)
        with torch.device("meta"):
            assert norm(x, lengths=LENGTHS).device.type == "cpu"


def trainings(layer: Any) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return ways to train that pass working memory to autograd."""
    return {
        "plain": lambda x: layer(x)[0],
        "checkpoint": lambda x: checkpoint(layer, x, use_reentrant=False)[0],
        "reentrant": lambda x: checkpoint(layer, x, use_reentrant=True)[0],
    }


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_validation_in_inference_mode_leaves_nothing_to_training(cell: str, norm: Any) -> None:
    layer = LAYERS[cell](I, H, 2, norm=norm, bidirectional=True)
    with torch.inference_mode():
        for steps in range(1, 60):
            layer.eval()(torch.randn(steps, B, I))
            layer.train()(torch.randn(steps, B, I))
    for way, train in trainings(layer).items():
        for steps in range(1, 60, 3):
            x = torch.randn(steps, B, I, requires_grad=True)
            train(x).sum().backward()
            with torch.autograd.graph.save_on_cpu():
                output = train(x)
            output.sum().backward()
            assert x.grad is not None, way


@needs_compiler
def test_a_compiled_layer_trains_after_validation_in_inference_mode() -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    with torch.inference_mode():
        for steps in range(1, 60):
            layer(torch.randn(steps, B, I))
    compiled = torch.compile(layer, backend="aot_eager", dynamic=True)
    for steps in range(2, 40, 9):
        compiled(torch.randn(steps, B, I))[0].sum().backward()


class Negated(nn.Module):
    """A weight that is stored with the opposite sign."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch._neg_view(weight)


@pytest.mark.parametrize(("name", "cell"), KINDS)
def test_lazily_negated_views_are_read_as_they_are(name: str, cell: str) -> None:
    """Such views are input, initial state, weight and cotangent."""
    layer = build(name, cell)
    x, hx = torch.randn(T, B, I, dtype=F64), [part[None] for part in of_layer(layer, B)]
    cotangent = torch.randn(T, B, H, dtype=F64)
    kept = {key: value.clone() for key, value in layer.state_dict().items()}

    def call(lazy: bool) -> list[Tensor]:
        turn = torch._neg_view if lazy else torch.neg
        given = [x.clone().requires_grad_(), *(part.clone().requires_grad_() for part in hx)]
        output, states = layer(turn(given[0]), as_hx([turn(part) for part in given[1:]]))
        return [output, *parts_of(states), *torch.autograd.grad(output, given, turn(cotangent))]

    expected = call(lazy=False)
    layer.load_state_dict(kept)
    for a, e in zip(call(lazy=True), expected):
        assert_close(a, e, VALUES)
    layer.load_state_dict(kept)
    with torch.no_grad():
        layer.weight_hh_l0.neg_()
    register_parametrization(layer, "weight_hh_l0", Negated())
    assert layer.weight_hh_l0.is_neg()
    for a, e in zip(call(lazy=True), expected):
        assert_close(a, e, VALUES)


@pytest.mark.parametrize("norm", ["layer", "batch", None])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
# Forward mode compiles formulas of torch in a way that torch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("chunks", [None, 2])
def test_forward_over_reverse(cell: str, norm: Any, chunks: int | None) -> None:
    """The tangent of a gradient is right if the forward pass ran before there were tangents."""
    layer = LAYERS[cell](I, H, norm=norm, dtype=F64)
    if chunks is not None:
        seqnorm.compute_in_chunks(layer, chunks, recompute=True)
    x = torch.randn(T, B, I, dtype=F64, requires_grad=True)
    value, tangent = torch.randn(2, T, B, H, dtype=F64)
    found = []
    for backend in ("reference", None):
        if backend is None:
            output = layer(x)[0]
        else:
            with seqnorm.use_backend(backend):
                output = layer(x)[0]
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(value, tangent)
            (grad,) = torch.autograd.grad(output, x, dual)
            found.append(torch.autograd.forward_ad.unpack_dual(grad).tangent)
    assert found[0] is not None
    assert found[1] is not None
    assert_close(found[1], found[0], GRADIENTS)
