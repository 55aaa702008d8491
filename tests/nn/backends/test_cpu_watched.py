"""Observers of a layer: tracers, fake tensors, counters, hooks of saved tensors.

Axes: T steps, B sequences, N packed rows, I = input size, H = hidden size, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from beside_reference import F64, build, needs_kernels
from operators_seen import Seen, operators_of
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import seqnorm
from seqnorm.nn.backends import watching
from seqnorm.nn.layers.cells import LAYERS

pytestmark = needs_kernels
I, H, T, B = 3, 5, 4, 2  # noqa: E741  the axes' letters
CELLS = ["LSTM", "GRU"]


def deep(cell: str) -> Any:
    """Two layers in both directions."""
    return build(cell, "layer", I, H, num_layers=2, bidirectional=True)


def draw(steps: int = T, batch: int = B) -> Tensor:
    return torch.randn(steps, batch, I, dtype=F64)


def gradients(layer: Any, x: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("cell", CELLS)
def test_make_fx(cell: str, mode: str) -> None:
    """A graph contains the operators and computes other inputs, of other lengths if symbolic."""
    layer, other = deep(cell), draw(7, 3) if mode == "symbolic" else draw()
    options = {"tracing_mode": mode, "_allow_non_fake_inputs": True}
    with torch.no_grad():
        graph = make_fx(lambda x: layer(x)[0], **options)(draw())
        assert operators_of(graph) == ["recurrence"] * 4
        assert_close(graph(other), layer(other)[0], VALUES)
    if mode == "symbolic":
        other = draw()  # autograd fixes the sizes of sums
    graph = make_fx(lambda x: gradients(layer, x), **options)(draw())
    assert operators_of(graph) == ["recurrence_training"] * 4 + ["recurrence_backward"] * 4
    for a, e in zip(graph(other), gradients(layer, other)):
        assert_close(a, e, GRADIENTS)


@pytest.mark.parametrize("cell", CELLS)
def test_operations_are_counted(cell: str) -> None:
    """The counter sees the operations of the definition, which then computes the layer."""
    layer, x, counts = deep(cell), draw(), []
    for pin in (nullcontext(), seqnorm.use_backend("reference")):
        with pin, FlopCounterMode(display=False) as counter:
            output, _ = layer(x)
            counts.append(counter.get_total_flops())
            output.sum().backward()
            counts.append(counter.get_total_flops())
    gates = len(layer.weight_hh_l0)
    once = sum(2 * T * B * gates * (width + H) for width in (I, I, 2 * H, 2 * H))
    assert counts[0] == once
    assert counts[1] > 2 * once
    assert counts[2:] == counts[:2]


@pytest.mark.parametrize("cell", CELLS)
def test_a_dispatch_mode_sees_the_operators(cell: str) -> None:
    layer, x = deep(cell), draw()
    expected = gradients(layer, x)
    with Seen() as seen:
        found = gradients(layer, x)
    assert [name for name, _ in seen.calls] == [
        *["recurrence_training"] * 4,
        *["recurrence_backward"] * 4,
    ]
    for a, e in zip(found, expected):
        assert_equal(a, e)


@pytest.mark.parametrize("cell", CELLS)
def test_fake_tensors(cell: str) -> None:
    """They work within their mode and, unless an index reverses them, outside of it."""
    mode = FakeTensorMode()
    x = mode.from_tensor(torch.randn(T, B, I))
    for within, directions in ((mode, 2), (mode, 1), (nullcontext(), 1)):
        with mode:
            layer = LAYERS[cell](I, H, 2, norm="layer", bidirectional=directions == 2)
        with within:
            output, _ = layer(x)
            output.sum().backward()
        assert isinstance(output, FakeTensor)
        assert output.shape == (T, B, directions * H)
        assert layer.weight_hh_l1.grad.shape == layer.weight_hh_l1.shape


@pytest.mark.parametrize("cell", CELLS)
def test_tensors_on_meta(cell: str) -> None:
    layer = LAYERS[cell](I, H, 2, norm="layer", device="meta")
    output, _ = layer(torch.randn(T, B, I, device="meta"))
    output.sum().backward()
    assert output.shape == (T, B, H)
    assert layer.weight_hh_l1.grad.is_meta


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_checkpoints(cell: str, reentrant: bool) -> None:
    layer, x = deep(cell), draw().requires_grad_()
    leaves = [x, *layer.parameters()]
    layer(x)[0].square().sum().backward()
    expected = [leaf.grad.clone() for leaf in leaves]
    layer.zero_grad()
    x.grad = None
    with Seen() as seen:
        output = checkpoint(lambda x: layer(x)[0], x, use_reentrant=reentrant)
        output.square().sum().backward()
    names = [name for name, _ in seen.calls]
    assert names.count("recurrence_training") == (4 if reentrant else 8), "computed twice"
    for leaf, e in zip(leaves, expected):
        assert_equal(leaf.grad, e)


Hooks = Callable[[], Any]


@contextmanager
def copies(seen: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Collect everything that is saved, with a copy of its values."""

    def pack(tensor: Tensor) -> int:
        seen.append((tensor, tensor.detach().clone()))
        return len(seen) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda number: seen[number][0]):
        yield


@pytest.mark.skipif(
    watching._top_hooks is None,
    reason=f"torch {torch.__version__} says not whether there are hooks",
)
@pytest.mark.parametrize("cell", CELLS)
def test_hooks_see_all_that_is_saved(cell: str) -> None:
    """Saved tensors are not changed afterwards, because hooks may read them later."""
    layer, x = build(cell, "layer", I, H), draw()
    expected = gradients(layer, x)
    seen: list[tuple[Tensor, Tensor]] = []
    with copies(seen):
        found = gradients(layer, x)
    for a, e in zip(found, expected):
        assert_equal(a, e)
    gates = len(layer.weight_hh_l0)
    shapes = [tuple(tensor.shape) for tensor, _ in seen]
    assert any(s[0] == T * B and s[1] > 2 * gates for s in shapes if len(s) == 2), "W x and W h"
    for tensor, before in seen:
        assert_equal(tensor.detach(), before)


def save_on_cpu() -> Any:
    return torch.autograd.graph.save_on_cpu()


def in_single() -> Any:
    """Return hooks that save tensors in float32, in which the weights are exact."""
    single = torch.float32
    return torch.autograd.graph.saved_tensors_hooks(
        lambda t: (t.dtype, t.to(single) if t.is_floating_point() else t),
        lambda saved: saved[1].to(saved[0]),
    )


@pytest.mark.parametrize(("hooks", "tolerance"), [(save_on_cpu, 0.0), (in_single, 1e-5)])
@pytest.mark.parametrize("cell", CELLS)
def test_what_hooks_give_back_is_used(cell: str, hooks: Hooks, tolerance: float) -> None:
    layer, x = deep(cell), draw()
    expected = gradients(layer, x)
    with hooks():
        found = gradients(layer, x)
    for a, e in zip(found, expected):
        assert_close(a, e, tolerance)
    if tolerance:
        assert any(not a.equal(e) for a, e in zip(found, expected))


@pytest.mark.parametrize("cell", CELLS)
def test_further_derivatives_under_hooks(cell: str) -> None:
    """Second derivatives, and several at a time."""
    layer, x = build(cell, "layer", I, H), draw()

    def loss(x: Tensor) -> Tensor:
        return layer(x)[0].square().sum()

    with seqnorm.use_backend("reference"):
        hessian = torch.autograd.functional.hessian(loss, x)
        jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x)
    options = {"vectorize": True}
    with save_on_cpu():
        assert_close(torch.autograd.functional.hessian(loss, x), hessian, GRADIENTS)
        found = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x, **options)
    assert_close(found, jacobian, GRADIENTS)


@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_of_cotangents_under_hooks(cell: str) -> None:
    layer, x = build(cell, "layer", I, H), draw().requires_grad_()
    with torch.autograd.graph.save_on_cpu():
        output = layer(x)[0]
    cotangents = torch.randn(3, *output.shape, dtype=F64)

    def gradient(cotangent: Tensor) -> Tensor:
        return torch.autograd.grad(output, x, cotangent, retain_graph=True)[0]

    expected = torch.stack([gradient(cotangent) for cotangent in cotangents])
    assert_close(torch.func.vmap(gradient)(cotangents), expected, GRADIENTS)


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")  # but in use
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # sizes become constants
@pytest.mark.parametrize("cell", CELLS)
def test_a_trace_of_torch_jit(cell: str) -> None:
    """The tracer does not see kernels, so the steps of the definition are traced."""
    layer = build(cell, "layer", I, H).eval().requires_grad_(False)
    traced = torch.jit.trace(lambda x: layer(x)[0], draw(), check_trace=False)
    x = draw()
    assert_close(traced(x), layer(x)[0], VALUES)
