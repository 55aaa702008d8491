"""With torch.compile and torch.export, each direction of a layer is one operator of any length.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from beside_reference import F32, F64, Call, build, needs_kernels, single, taken
from comparing import copy_of
from functorch.compile import make_boxed_func
from hidden_states import as_hx, parts_of
from operators_seen import operators_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.export import Dim
from torch_versions import needs_compiler

from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.packing import TensorPacking

pytestmark = [needs_kernels, needs_compiler]
I, H, T, B = 3, 5, 4, 3  # noqa: E741  the axes' letters
TAKEN = taken()
STEPS = list(library.STEPS)
DEEP = {"num_layers": 2, "bidirectional": True}
# Norms of separate terms, of their sum, before the kernel, around it, no norm, all biases.
CASES = ["LSTM kiros2016", "LSTM icefall", "LSTM laurent2016", "LSTM outside", "LSTM no norm"]
CASES += ["GRU layer", "GRU dreamer", "GRU batch_pooled", "GRU outside", "GRU kinds"]
CASES += ["LiGRU kinds", "LiGRU ravanelli2018", "RNN layer", "IndRNN None", "IndRNN kinds"]


@pytest.fixture(autouse=True)
def forgetting() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs:
    """A compiler backend that compiles nothing and records the operators of every graph."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.seen.append(operators_of(graph))
        return graph.forward


def trained(layer: nn.Module, function: Any, call: Call) -> dict[str, Tensor]:
    """Return results, all gradients and statistics, which are then restored in the layer."""
    before = copy_of(dict(layer.named_buffers()))
    leaves = {"input": call.input.clone(), **{f"state {k}": s for k, s in enumerate(call.state)}}
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
    state = tuple(leaf for name, leaf in leaves.items() if name != "input")
    output, last = function(leaves["input"], as_hx(state), lengths=call.lengths)
    leaves |= dict(layer.named_parameters())
    results = (output, *parts_of(last))
    grads = torch.autograd.grad(
        results, list(leaves.values()), call.cotangents, allow_unused=True, materialize_grads=True
    )
    found = {f"result {k}": value.detach() for k, value in enumerate(results)}
    found |= dict(zip(leaves, grads)) | copy_of(dict(layer.named_buffers()))
    with torch.no_grad():
        for name, buffer in layer.named_buffers():
            buffer.copy_(before[name])
    return found


def assert_trained_alike(layer: nn.Module, call: Call, backend: Any, tolerance: float) -> None:
    expected = trained(layer, layer, call)
    found = trained(layer, torch.compile(layer, backend=backend, fullgraph=True), call)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, tolerance, name)


@pytest.mark.parametrize("name", CASES)
def test_training_is_eager_training(name: str) -> None:
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H, **DEEP)
    assert_trained_alike(layer, Call.draw(layer, None), "aot_eager", GRADIENTS)


# Inductor imports deprecated parts of torch.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("cell", "dtype"), [("LSTM", F32), ("GRU", F64)])
def test_inductor(cell: str, dtype: torch.dtype) -> None:
    layer = build(cell, "layer", I, H, **DEEP)
    call = Call.draw(layer, None).to(dtype)
    layer = single(layer) if dtype == F32 else layer
    assert_trained_alike(layer, call, "inductor", 1e-10 if dtype == F64 else 1e-4)


@pytest.mark.parametrize("cell", STEPS)
def test_one_operator_a_layer_and_direction(cell: str) -> None:
    """This holds for forward and backward; without gradients nothing is kept for them."""
    forward, backward = Graphs(), Graphs()
    compiler = aot_autograd(
        fw_compiler=lambda *graph: make_boxed_func(forward(*graph)),
        bw_compiler=lambda *graph: make_boxed_func(backward(*graph)),
    )
    layer = torch.compile(build(cell, "layer", I, H, **DEEP), backend=compiler, fullgraph=True)
    x = torch.randn(T, B, I, dtype=F64)
    layer(x)[0].sum().backward()
    assert forward.seen == [["recurrence_training"] * 4]
    assert backward.seen == [["recurrence_backward"] * 4]
    for without in (torch.no_grad, torch.inference_mode):
        forward.seen.clear()
        with without():
            layer(x)
        assert forward.seen in ([["recurrence"] * 4], []), "or the graph of no_grad once more"
    assert len(backward.seen) == 1


@pytest.mark.parametrize("cell", STEPS)
def test_some_parameters_are_frozen(cell: str) -> None:
    layer = build(cell, "layer", I, H)
    layer.weight_ih_l0.requires_grad_(False)
    *_, norm = (part for name, part in layer.named_children() if name.startswith("norm"))
    norm.requires_grad_(False)
    x = torch.randn(T, B, I, dtype=F64)
    leaves = [p for p in layer.parameters() if p.requires_grad]
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found, expected = (
        torch.autograd.grad(one(x)[0].square().sum(), leaves) for one in (fast, layer)
    )
    for a, e in zip(found, expected):
        assert_close(a, e, GRADIENTS)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", STEPS)
def test_one_graph_for_any_length(cell: str, batch_first: bool) -> None:
    layer = build(cell, "layer", I, H, batch_first=batch_first, **DEEP)
    graphs = Graphs()
    fast = torch.compile(layer, backend=graphs, fullgraph=True)
    for first, second in ((4, 3), (7, 2), (2, 9)):
        x = torch.randn(first, second, I, dtype=F64)
        torch._dynamo.mark_dynamic(x, 0)
        torch._dynamo.mark_dynamic(x, 1)
        assert_close(fast(x)[0], layer(x)[0], VALUES)
    assert graphs.seen == [["recurrence"] * 4]


@pytest.mark.parametrize("cell", STEPS)
def test_training_with_any_length(cell: str) -> None:
    layer = build(cell, "layer", I, H, **DEEP)
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for steps, batch in ((4, 3), (7, 2), (1, 1)):
        call = Call.draw(layer, None, batch, steps)
        expected = trained(layer, layer, call)
        for name, value in trained(layer, fast, call).items():
            assert_close(value, expected[name], GRADIENTS, name)


LENGTHS = ([4, 2, 3], [1, 4, 4], [0, 4, 1], [4, 4, 4], [4, 0, 0], [4, 2, 3])


@pytest.mark.parametrize("name", ["LSTM layer", "LSTM outside", "LSTM None", "GRU kinds"])
def test_different_lengths_in_one_graph(name: str) -> None:
    """The padding is NaN and has a gradient of zero."""
    cell, norm = TAKEN[name]
    layer = build(cell, norm, I, H, **DEEP)
    graphs = Graphs()
    looking = torch.compile(layer, backend=graphs, fullgraph=True)
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for lengths in LENGTHS:
        call = Call.draw(layer, lengths)
        call.lengths = torch.tensor(lengths)
        call.input[torch.arange(T)[:, None] >= call.lengths] = torch.nan
        expected = trained(layer, layer, call)
        looking(call.input, as_hx(call.state), call.lengths)
        for key, value in trained(layer, fast, call).items():
            assert_close(value, expected[key], GRADIENTS, f"{lengths}, {key}")
    assert graphs.seen == [["recurrence"] * 4]


def test_lengths_as_a_list() -> None:
    """They are constants of the graph, and other lengths need another graph."""
    layer, graphs = build("GRU", "layer", I, H), Graphs()
    fast = torch.compile(layer, backend=graphs, fullgraph=True)
    x = torch.randn(T, B, I, dtype=F64)
    for lengths in (*LENGTHS, [0, 0, 0]):
        assert_close(fast(x, lengths=lengths)[0], layer(x, lengths=lengths)[0], VALUES)
    assert graphs.seen == [["recurrence"]] * len(LENGTHS), "of those one comes twice"


@pytest.mark.parametrize("lengths", [[5, 2, 3], [4, -1, 3]])
def test_wrong_lengths(lengths: list[int]) -> None:
    layer = build("LSTM", "layer", I, H)
    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=r"every length must lie in 0\.\.T"):
        fast(torch.randn(T, B, I, dtype=F64), lengths=torch.tensor(lengths))


def test_a_packing_for_all_lengths_has_no_lists() -> None:
    with pytest.raises(NotImplementedError, match="for all lengths"):
        _ = TensorPacking(torch.tensor([2, 1]), 2).batch_sizes


def test_second_derivatives_are_refused() -> None:
    """torch refuses them where it splits the graph; otherwise the definition computes them."""
    layer, x = build("LSTM", "layer", I, H), torch.randn(T, B, I, dtype=F64, requires_grad=True)

    def second(layer: Any) -> Tensor:
        (grad,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), x)[0]

    assert_close(second(torch.compile(layer, backend="eager")), second(layer), GRADIENTS)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        second(torch.compile(layer, backend="aot_eager"))


@pytest.mark.parametrize("cell", STEPS)
def test_transforms_within_a_graph(cell: str) -> None:
    """The definition computes them, as without a graph."""
    layer, x = build(cell, "layer", I, H), torch.randn(T, B, I, dtype=F64)
    gradient = torch.func.grad(lambda x: layer(x)[0].square().sum())
    many = torch.func.vmap(lambda x: layer(x)[0])
    for function, given in ((gradient, x), (many, torch.stack([x, x.cos()]))):
        graphs = Graphs()
        found = torch.compile(function, backend=graphs, fullgraph=True)(given)
        assert graphs.seen == [[]]
        assert_close(found, function(given), GRADIENTS)


def test_without_kernels_a_graph_is_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning of slow layers does not come with every graph."""
    layer, x = build("LSTM", "layer", I, H), torch.randn(T, B, I, dtype=F64)
    expected = layer(x)[0]
    monkeypatch.setattr(cpu, "LIBRARY", None)
    monkeypatch.setattr(cpu, "WHY_NOT", "its kernels were lost")
    graphs = Graphs()
    assert_close(torch.compile(layer, backend=graphs, fullgraph=True)(x)[0], expected, VALUES)
    assert graphs.seen == [[]]


class Model(nn.Module):
    """Stacked layers in both directions, with an initial state."""

    def __init__(self) -> None:
        super().__init__()
        self.below = build("LSTM", "layer", I, H, batch_first=True, **DEEP)
        self.above = build("GRU", "rms", 2 * H, H, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        output: Tensor = self.above(self.below(x)[0], h)[0]
        return output


def given(steps: int, batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, steps, I, dtype=F64), torch.randn(1, batch, H, dtype=F64)


def exported(model: nn.Module, strict: bool) -> torch.export.ExportedProgram:
    T, B = Dim("T"), Dim("B")
    shapes = ({0: B, 1: T}, {1: B})
    return torch.export.export(model, given(4, 3), dynamic_shapes=shapes, strict=strict)


# A warning of torch about its deprecated trees.
OF_TREES = "ignore:`isinstance.treespec, LeafSpec:FutureWarning"


@pytest.mark.filterwarnings(OF_TREES)
@pytest.mark.parametrize("strict", [True, False])
def test_an_export_of_any_length(strict: bool) -> None:
    """The batch is also dynamic; in inference and in training, before and after decompositions."""
    model = Model()
    program = exported(model, strict)
    assert operators_of(program.graph_module) == ["recurrence"] * 5
    again = program.run_decompositions()
    assert operators_of(again.graph_module) == ["recurrence"] * 5
    for steps, batch in ((4, 3), (9, 2), (1, 1), (2, 8)):
        inputs = given(steps, batch)
        expected = model(*inputs)
        gradients = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
        for found in (program.module(), again.module()):
            output = found(*inputs)
            assert_close(output, expected, VALUES)
            named = dict(found.named_parameters())
            leaves = [named[name] for name, _ in model.named_parameters()]
            for a, e in zip(torch.autograd.grad(output.square().sum(), leaves), gradients):
                assert_close(a, e, GRADIENTS)


@pytest.mark.parametrize("cell", STEPS)
@pytest.mark.parametrize("norm", ["rms", "batch_pooled"])
def test_exports_of_training_and_inference(cell: str, norm: str) -> None:
    """An exported layer in training continues to collect statistics of the batch."""
    x, other = torch.randn(2, T, B, I, dtype=F64).unbind()
    for training in (True, False):
        heads = {"num_heads": 1} if cell == "SLSTM" else {}
        layer = LAYERS[cell](I, H, norm=norm, dtype=F64, **heads).train(training)
        program = torch.export.export(layer, (x,)).module()
        assert_close(program(other)[0], layer(other)[0], VALUES)
        buffers = dict(layer.named_buffers())
        for name, value in program.named_buffers():
            assert_close(value, buffers[name], VALUES, name)


class WithLengths(nn.Module):
    def __init__(self, cell: str) -> None:
        super().__init__()
        self.layer = build(cell, "layer", I, H, batch_first=True, **DEEP)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output: Tensor = self.layer(x, lengths=lengths)[0]
        return output


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("cell", STEPS)
def test_an_export_for_all_lengths(cell: str, strict: bool) -> None:
    model = WithLengths(cell)
    inputs = torch.randn(B, T, I, dtype=F64), torch.tensor([4, 2, 3])
    shapes = ({0: Dim("B"), 1: Dim("T")}, {0: Dim("B")})
    program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=strict)
    assert operators_of(program.graph_module) == ["recurrence"] * 4
    found = program.module()
    for steps, lengths in ((4, [1, 0, 4]), (9, [7, 2]), (3, [0, 3, 1, 2, 2]), (2, [0, 0])):
        x = torch.randn(len(lengths), steps, I, dtype=F64)
        given = x, torch.tensor(lengths)
        assert_close(found(*given), model(*given), VALUES)
        with pytest.raises(RuntimeError, match=r"every length must lie in 0\.\.T"):
            found(x, torch.full((len(lengths),), steps + 1))


LOADED = """
import sys, torch, seqnorm
folder = sys.argv[1]
program = torch.export.load(folder + "/program.pt2").module()
x, h, output, gradient = torch.load(folder + "/tensors.pt")
found = program(x.requires_grad_(), h)
assert torch.allclose(found, output, rtol=0, atol=1e-10), (found - output).abs().max()
found.square().sum().backward()
assert torch.allclose(x.grad, gradient, rtol=0, atol=1e-10), (x.grad - gradient).abs().max()
"""


def test_an_export_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The process imports seqnorm and uses none of its layers."""
    model = Model()
    torch.export.save(exported(model, strict=True), tmp_path / "program.pt2")
    x, h = given(6, 2)
    output = model(x.requires_grad_(), h)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    torch.save((x.detach(), h, output.detach(), gradient), tmp_path / "tensors.pt")
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOADED, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
