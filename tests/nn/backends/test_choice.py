"""The choice of a backend: claims and reasons, pinning, the fused path, torch.compile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hidden_states import of_layer, parts_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch import nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn import backends
from seqnorm.nn.backends import BACKENDS, aten, explain, reference
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.packing import Packing

I, H, T, B = 3, 8, 4, 4  # noqa: E741  the axes' letters
F64 = torch.float64
# Cells for which torch has a function; the others have only the definition.
FUSED = [kind for kind in LAYERS if hasattr(nn, kind)]
UNFUSED = [kind for kind in LAYERS if kind not in FUSED]
# A norm that every cell can have, in its layer and in a single step.
JOINT = seqnorm.NormScheme(input=seqnorm.Norm("layer"), hidden=seqnorm.Norm("layer"))
CPU = torch.device("cpu")


def call(layer: nn.Module, lengths: list[int] | None = None) -> tuple[Any, ...]:
    """Return arguments of ``explain``: the first direction, rows, their packing and a state."""
    if lengths is None:
        packing = Packing.of_equal_lengths(B, T, CPU)
    else:
        packing = Packing.from_lengths(torch.tensor(lengths), CPU)
    rows = torch.randn(sum(packing.batch_sizes), I, dtype=F64)
    return layer.directions()[0], rows, packing, of_layer(layer, B)


def test_the_definition_is_the_last_without_a_request() -> None:
    assert list(BACKENDS)[-2:] == ["reference", "triton"]
    for module in BACKENDS.values():
        assert callable(module.claims)
        assert callable(module.run)


@pytest.mark.parametrize("kind", FUSED)
def test_explain_gives_every_reason(kind: str) -> None:
    plain = LAYERS[kind](I, H, dtype=F64)
    reasons = explain(*call(plain))
    assert list(reasons) == list(BACKENDS)
    assert reasons["aten"] is None
    assert reasons["reference"] is None
    for options, lengths, says in (
        ({"norm": "layer"}, None, "has no norm"),
        ({"norm": seqnorm.NormScheme()}, None, "has no norm"),
        ({"zoneout": 0.1}, None, "has no zoneout"),
        ({}, [4, 2, 1, 0], "slower"),
        ({}, [0] * B, "no rows"),
    ):
        reasons = explain(*call(LAYERS[kind](I, H, dtype=F64, **options), lengths))
        assert set(reasons) == set(BACKENDS)
        assert says in reasons["aten"], options
        assert reasons["reference"] is None


@pytest.mark.parametrize("kind", UNFUSED)
def test_what_torch_has_not_is_left_to_the_definition(kind: str) -> None:
    layer = LAYERS[kind](I, H, dtype=F64)
    reasons = explain(*call(layer))
    assert reasons["aten"] == f"torch has no {kind} of its own"
    assert reasons["reference"] is None
    x = torch.randn(T, B, I, dtype=F64)
    with (
        seqnorm.use_backend("aten"),
        pytest.raises(RuntimeError, match=f"call: torch has no {kind}"),
    ):
        layer(x)
    with seqnorm.use_backend("reference"):
        expected = layer(x)[0]
    assert_close(layer(x)[0], expected, VALUES)


def test_the_first_that_claims_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order holds for torch's own and the definition, which always exist."""
    # A new dict, because an entry that is deleted and restored would come last.
    everywhere = {"aten": aten, "reference": reference}
    monkeypatch.setattr(backends, "BACKENDS", everywhere)
    calls = []

    def spy(name: str, run: Any) -> Any:
        return lambda *args: (calls.append(name), run(*args))[1]

    for name, module in everywhere.items():
        monkeypatch.setattr(module, "run", spy(name, module.run))
    x = torch.randn(T, B, I)
    seqnorm.LSTM(I, H, 2)(x)
    seqnorm.LSTM(I, H, norm="layer")(x)
    seqnorm.GRU(I, H)(x, lengths=[4, 4, 4, 4])
    seqnorm.GRU(I, H)(x, lengths=[4, 1, 4, 4])
    seqnorm.RNN(I, H, nonlinearity="relu")(x)
    seqnorm.SLSTM(I, H)(x)
    with seqnorm.use_backend("reference"):
        seqnorm.LSTM(I, H)(x)
    assert calls == [
        "aten",
        "aten",
        "reference",
        "aten",
        "reference",
        "aten",
        "reference",
        "reference",
    ]


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.parametrize(
    ("options", "lengths", "reason"),
    [
        ({"norm": "layer"}, None, "torch's fused layer has no norm"),
        ({"zoneout": 0.5}, None, "torch's fused layer has no zoneout"),
        ({}, [4, 3, 1, 0], "slower than the time loop on a CPU"),
    ],
)
def test_a_pinned_backend_says_why_not(
    kind: str, options: dict[str, Any], lengths: list[int] | None, reason: str
) -> None:
    layer = LAYERS[kind](I, H, **options)
    with (
        seqnorm.use_backend("aten"),
        pytest.raises(RuntimeError, match=f"backend 'aten' does not take this call: .*{reason}"),
    ):
        layer(torch.randn(T, B, I), lengths=lengths)
    layer(torch.randn(T, B, I), lengths=lengths)


def test_an_error_of_a_backend_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(aten, "run", broken)
    with pytest.raises(ZeroDivisionError, match="broken"):
        seqnorm.LSTM(I, H)(torch.randn(T, B, I))


def pinned() -> str | None:
    return backends._pinned.get()


def test_pinning_nests_and_is_undone() -> None:
    assert pinned() is None
    with seqnorm.use_backend("reference"):
        assert pinned() == "reference"
        with seqnorm.use_backend("aten"):
            assert pinned() == "aten"
            seqnorm.LSTM(I, H)(torch.randn(T, B, I))
        assert pinned() == "reference"
        seqnorm.LSTM(I, H, norm="layer")(torch.randn(T, B, I))
    assert pinned() is None


def test_pinning_is_undone_by_an_exception() -> None:
    with pytest.raises(KeyError), seqnorm.use_backend("reference"):  # noqa: PT012
        with pytest.raises(RuntimeError, match="has no norm"), seqnorm.use_backend("aten"):
            seqnorm.LSTM(I, H, norm="layer")(torch.randn(T, B, I))
        assert pinned() == "reference"
        raise KeyError
    assert pinned() is None
    known = ", ".join(repr(name) for name in BACKENDS)
    with pytest.raises(ValueError, match=f"backend must be one of {known}, got 'cuda'"):
        seqnorm.use_backend("cuda").__enter__()
    assert pinned() is None


def test_pinning_belongs_to_its_thread() -> None:
    """Several threads pin different backends at the same time."""
    barrier = threading.Barrier(len(BACKENDS), timeout=20)
    found: dict[str, list[str | None]] = {}

    def work(name: str) -> None:
        seen = [pinned()]
        with seqnorm.use_backend(name):
            barrier.wait()
            seen.append(pinned())
            barrier.wait()
        seen.append(pinned())
        found[name] = seen

    with seqnorm.use_backend("aten"):
        threads = [threading.Thread(target=work, args=(name,)) for name in BACKENDS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert pinned() == "aten"
        assert backends._pinned_when_traced == "aten", "they have all left"
    assert backends._pinned_when_traced is None
    assert found == {name: [None, name, None] for name in BACKENDS}


def test_as_a_decorator() -> None:
    @seqnorm.use_backend("reference")
    def inside() -> str | None:
        return pinned()

    assert inside() == "reference"
    assert pinned() is None
    assert inside() == "reference"


def ragged() -> Iterator[tuple[str, list[int]]]:
    yield "sorted", [4, 3, 3, 1]
    yield "zeros", [4, 2, 0, 0]
    yield "uniform and zero", [4, 4, 4, 0]
    yield "one", [2, 0, 0, 0]
    yield "uniform", [4, 4, 4, 4]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "lengths", [lengths for _, lengths in ragged()], ids=[n for n, _ in ragged()]
)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {}),
        ("LSTM", {"proj_size": 2}),
        ("GRU", {}),
        ("RNN", {}),
        ("RNN", {"nonlinearity": "relu"}),
    ],
)
def test_the_fused_path_over_ragged_rows(
    kind: str, options: dict[str, Any], lengths: list[int], bias: bool
) -> None:
    """A GPU takes this path; on a CPU it is only slower, so it can be compared here."""
    layer = LAYERS[kind](I, H, bias=bias, dtype=F64, **options)
    direction, rows, packing, _ = call(layer, lengths)
    sizes = [options.get("proj_size") or H, H][: len(direction.step.states)]
    state = tuple(torch.randn(B, size, dtype=F64) for size in sizes)
    found = []
    for module in (reference, aten):
        leaves = [rows.clone().requires_grad_(), *(s.clone().requires_grad_() for s in state)]
        outputs, final = module.run(direction, leaves[0], packing, tuple(leaves[1:]))
        results = [outputs, *final]
        torch.manual_seed(3)
        total = sum((part * torch.randn_like(part)).sum() for part in results)
        parameters = list(layer.parameters())
        found.append((results, torch.autograd.grad(total, [*leaves, *parameters])))
    (expected, expected_grads), (actual, actual_grads) = found
    assert len(actual) == len(expected) == 1 + len(sizes)
    for a, e in zip(actual, expected):
        assert_close(a, e, VALUES)
    for a, e in zip(actual_grads, expected_grads):
        assert_close(a, e, GRADIENTS)
    for number, length in enumerate(lengths):
        if length == 0:
            for part, before in zip(actual[1:], state):
                assert part[number].equal(before[number]), "no step, no change"


def test_the_definition_can_be_differentiated_twice() -> None:
    """Second derivatives equal finite differences of the first derivative, in float64."""
    for cls in LAYERS.values():
        layer = cls(2, 8, norm="layer", dtype=F64)
        x = torch.randn(3, 2, 2, dtype=F64, requires_grad=True)
        with seqnorm.use_backend("reference"):
            assert torch.autograd.gradgradcheck(lambda v, m=layer: m(v)[0], (x,), atol=1e-4)


# Dynamo breaks the graph where lengths become Python numbers, warns, and then reads the gradients
# of the tensors for the next graph.
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    ("kind", "norm", "backend"),
    [
        ("LSTM", "layer", "eager"),
        ("LSTM", "layer", "aot_eager"),
        ("GRU", "batch", "aot_eager"),
        ("RNN", "rms", "eager"),
        ("SLSTM", "layer", "aot_eager"),
    ],
)
def test_compiled_is_equal(kind: str, norm: str, backend: str) -> None:
    torch._dynamo.reset()
    layer = LAYERS[kind](I, H, norm=norm, dtype=F64)
    compiled = torch.compile(layer, backend=backend)
    for lengths in (None, [2, 0, 2, 1]):
        x = torch.randn(2, B, I, dtype=F64)
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        grads, results = [], []
        for module in (layer, compiled):
            layer.load_state_dict(before)  # with the initial tables
            v = x.clone().requires_grad_()
            output, _ = module(v, lengths=lengths)
            grads.append(torch.autograd.grad(output.square().sum(), [v, *layer.parameters()]))
            results.append([output, *(b.clone() for b in layer.buffers())])
        for a, e in zip(results[1], results[0]):
            assert_close(a, e, VALUES)
        for a, e in zip(grads[1], grads[0]):
            assert_close(a, e, GRADIENTS)
    torch._dynamo.reset()


@pytest.mark.parametrize("strict", [pytest.param(True, marks=needs_compiler), False])
@pytest.mark.parametrize("norm", [None, JOINT], ids=["None", "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_exported_is_equal(kind: str, norm: Any, strict: bool) -> None:
    layer = LAYERS[kind](I, H, norm=norm, dtype=F64)
    x, other = torch.randn(2, T, B, I, dtype=F64).unbind()
    program = torch.export.export(layer, (x,), strict=strict)
    assert_close(program.module()(other)[0], layer(other)[0], VALUES)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_compiled_cell_is_one_graph(kind: str) -> None:
    torch._dynamo.reset()
    cell = getattr(seqnorm, f"{kind}Cell")(I, H, norm=JOINT, dtype=F64)
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    x = torch.randn(B, I, dtype=F64)
    for a, e in zip(parts_of(compiled(x)), parts_of(cell(x))):
        assert_close(a, e, VALUES)
    torch._dynamo.reset()


# Inductor imports deprecated parts of torch.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # in torch 2.3
def test_inductor_compiles_a_cell() -> None:
    torch._dynamo.reset()
    cell = seqnorm.LSTMCell(I, H, norm="layer", dtype=F64)
    x = torch.randn(B, I, dtype=F64)
    for a, e in zip(torch.compile(cell, fullgraph=True)(x), cell(x)):
        assert_close(a, e, VALUES)
    torch._dynamo.reset()
