"""Calls that the kernels in Triton refuse, and graphs that hold them.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import ast
import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from beside_reference import Call, build
from hidden_states import as_hx, of_layer, parts_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torch_versions import needs_compiler, opcheck
from triton_here import needs_triton, scheme_inside

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends import BACKENDS, triton
from seqnorm.nn.backends.cpu import traced
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.packing import Packing, on_device

pytestmark = needs_triton
I, H, T, B = 3, 8, 4, 3  # noqa: E741  the axes' letters
BESIDE = NormScheme(input=Norm("layer"), hidden=Norm("layer"), bias_hh="inside")
MIXED = NormScheme(input=Norm("layer"), hidden=Norm("layer"), cell=Norm("batch"))
DEVIATION = NormScheme(hidden=Norm("layer", eps_on="std"))

# One cell of each kernel.
KERNELS = [cell for cell in triton.STEPS if cell != "RNN"]

# Options of a layer and the reason why the kernels do not take it.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *(
        (cell, {}, f"it has no kernel for the {cell}")
        for cell in LAYERS
        if cell not in triton.STEPS
    ),
    ("LSTM", {"proj_size": 2}, "it has no kernel with a projection"),
    ("GRU", {"heads": 2}, "it has no kernel with heads"),
    ("LSTM", {"norm": "batch_renorm"}, "it has no kernel for Batch Renormalization"),
    ("GRU", {"norm": BESIDE}, "it has no kernel with a bias of W_hh h before its norm"),
    ("LSTM", {"norm": MIXED}, "norms of the batch and of a row together in the recurrence"),
    ("LSTM", {"norm": DEVIATION}, "it has no kernel with eps added to the standard deviation"),
    ("LSTM", {"norm": NormScheme(cell=Norm("layer", 2))}, "it has no kernel for sets=2"),
    ("LSTM", {"norm": NormScheme(hidden=Norm("dynamic_tanh"))}, "it has no kernel for the norm"),
    ("LSTM", {"norm": NormScheme(hidden=Norm("rms", part=0.5))}, "a part of the units (part)"),
    ("GRU", {"norm": NormScheme(hidden=Norm("rms", window=3))}, "earlier steps (window)"),
]


def why(layer: Any, rows: Tensor | None = None, lengths: tuple[int, ...] = (T, 2, 1)) -> str | None:
    packing = Packing.from_lengths(torch.tensor(lengths), torch.device("cpu"))
    if rows is None:
        rows = layer.weight_ih_l0.new_zeros(sum(packing.batch_sizes), layer.input_size)
    return triton.claims(layer.directions()[0], rows, packing, of_layer(layer, len(lengths)))


@pytest.mark.parametrize(("cell", "options", "reason"), REFUSED)
def test_refused(cell: str, options: dict[str, Any], reason: str) -> None:
    found = why(LAYERS[cell](I, H, **options))
    assert found is not None
    assert reason in found


def test_refused_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    rows = torch.zeros(T + 3, I)
    assert why(layer) is None
    assert "no rows" in str(why(layer, lengths=(0, 0)))
    assert "of one dtype" in str(why(layer, rows.double()))
    assert "float16" in str(why(layer, rows.to(torch.complex64)))
    assert "on meta" in str(why(layer, rows.to("meta")))
    assert "weights of int8" in str(why(seqnorm.quantize_(seqnorm.LSTM(I, H, norm="layer"))))
    batch = seqnorm.LSTM(I, H, norm="batch")
    assert why(batch) is None
    monkeypatch.setattr(triton, "MOST_ROWS", 2)
    assert why(layer) is None
    assert "at most 2 sequences with norms of the batch" in str(why(batch))
    monkeypatch.setattr(triton, "MOST_HIDDEN", H - 1)
    assert "at most 7 units" in str(why(layer))
    monkeypatch.undo()
    monkeypatch.setattr(triton, "MOST_NUMBERS", T * H * 8)
    assert why(layer) is None
    assert "2^31 statistics" in str(why(batch))
    monkeypatch.setattr(triton, "MOST_NUMBERS", 3 * H * 4)
    assert "2^31 numbers of a step" in str(why(layer))
    monkeypatch.undo()
    with FlopCounterMode(display=False):
        assert "how many operations" in str(why(layer))
    with torch.autograd.forward_ad.dual_level():
        assert "forward-mode" in str(why(layer))
    found = []
    torch.func.vmap(lambda x: (found.append(why(layer, x)), x)[1])(rows[None])
    assert "torch.func" in str(found[0])


def test_refused_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its interpreter, the backend needs a GPU of NVIDIA's and the package."""
    layer = seqnorm.LSTM(I, H, norm="layer")
    assert triton.status() == (True, "not yet run on hardware, only on request")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "the input is on cpu" in str(why(layer))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton.status() == (False, "there is no GPU that PyTorch can use")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert triton.status()[0]
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert "NVIDIA" in triton.status()[1]
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    assert "triton is not installed" in triton.status()[1]


def test_only_on_request() -> None:
    layer, x = seqnorm.LSTM(I, H, norm="layer"), torch.randn(T, B, I)
    assert list(BACKENDS)[-1] == "triton"
    reasons = seqnorm.explain(layer, x).reasons["_l0"]
    assert reasons["triton"] is None
    with seqnorm.use_backend("triton"):
        assert "'triton' computes the call" in str(seqnorm.explain(layer, x))
    assert "'triton' computes" not in str(seqnorm.explain(layer, x))
    with (
        seqnorm.use_backend("triton"),
        pytest.raises(RuntimeError, match="'triton' does not take this call: it has no kernel for"),
    ):
        seqnorm.SLSTM(I, H)(x)


def test_claims_read_no_values() -> None:
    """A value that is read on a GPU makes the program wait for it."""
    tree = ast.parse(inspect.getsource(triton))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"item", "tolist", "cpu", "numpy", "nonzero", "any", "all"}


@pytest.fixture
def in_graphs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let the operators of graphs take the kernels, as they do on a GPU, and count the passes."""
    from seqnorm.nn.backends.triton import passes

    seen = SimpleNamespace(forward=0, backward=0)
    for name in ("Forward", "Backward"):
        real = getattr(passes, name).run

        def run(self: Any, real: Any = real, name: str = name.lower()) -> None:
            setattr(seen, name, getattr(seen, name) + 1)
            real(self)

        monkeypatch.setattr(getattr(passes, name), "run", run)
    monkeypatch.setitem(traced.ENGINES, "cpu", lambda: passes)
    return seen


def test_graphs_find_the_kernels_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to run first, so that a loaded program finds them too."""
    from seqnorm.nn.backends.triton import passes

    assert traced.ENGINES["cuda"]() is passes
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert traced.ENGINES["cuda"]() is None


@needs_compiler
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("cell", KERNELS)
def test_torch_compile(cell: str, norm: str | None, in_graphs: SimpleNamespace) -> None:
    torch.compiler.reset()  # the compiler counts the layers that it has seen
    layer = build(cell, scheme_inside(norm, cell), I, H)
    call = Call.draw(layer, None, B, T)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found = []
    for one, backend in ((compiled, "triton"), (layer, "reference")):
        x = call.input.clone().requires_grad_()
        with seqnorm.use_backend(backend):
            output, last = one(x, as_hx(call.state))
        values = (output, *parts_of(last))
        grads = torch.autograd.grad(values, [x, *layer.parameters()], call.cotangents)
        found.append((values, grads))
    assert (in_graphs.forward, in_graphs.backward) == (1, 1)
    for actual, expected in zip(found[0][0], found[1][0]):
        assert_close(actual.detach(), expected.detach(), VALUES)
    for actual, expected in zip(found[0][1], found[1][1]):
        assert_close(actual, expected, GRADIENTS)


@pytest.mark.parametrize("norm", [None, "layer", "batch"])
@pytest.mark.parametrize("cell", KERNELS)
def test_the_checks_of_torch(cell: str, norm: str | None, in_graphs: SimpleNamespace) -> None:
    """The operators of torch.library pass torch's own checks with these kernels."""
    from operators_seen import Seen

    layer = build(cell, scheme_inside(norm, cell), I, H)
    call = Call.draw(layer, [T] * B if norm == "batch" else [T, 2, 3])
    with Seen() as seen, seqnorm.use_backend("triton"):
        output, last = layer(call.input.requires_grad_(), as_hx(call.state), lengths=call.lengths)
        torch.autograd.backward((output, *parts_of(last)), list(call.cotangents))
    assert len(seen.calls) >= 2
    for name, arguments in seen.calls:
        given = [a.detach().clone() if isinstance(a, Tensor) else a for a in arguments]
        opcheck(getattr(torch.ops.seqnorm, name).default, tuple(given))
    assert in_graphs.forward > 1


def test_a_cuda_graph_cannot_hold_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="capture a call of sequences of one length"):
        on_device(torch.tensor([3, 2]), torch.device("cuda"))


def test_old_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.LSTM(I, H, norm="layer")
    rows = SimpleNamespace(device=torch.device("cuda"), is_cuda=True)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    packing = Packing.of_equal_lengths(B, T, torch.device("cpu"))
    found = triton.claims(layer.directions()[0], rows, packing, of_layer(layer, B))  # type: ignore[arg-type]  # only its device is read
    assert found == "its kernels need compute capability 8.0"
