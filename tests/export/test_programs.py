"""Programs of torch.export in torch's own operators, beside the layers in float64.

Programs run at sizes that were never traced, also in processes that cannot import seqnorm, through
AOTInductor, onnxruntime and ExecuTorch.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import BLOCK, DOCS, blocks, read
from torch import Tensor, nn

import seqnorm
from seqnorm.export import decompose, to_program
from seqnorm.export.graphs import NamedGraph

pytest.importorskip(
    "torch.onnx._internal.exporter._torchlib.ops.hop",
    reason="programs of torch's own operators need torch 2.9",
    exc_type=ImportError,
)

INPUT, HIDDEN = 4, 8
T, B = torch.export.Dim("T"), torch.export.Dim("B")
WITHOUT_EXECUTORCH = "executorch is not installed: nox -s programs installs it"
SIZES = ((9, 4), (2, 7), (1, 1))
# Loads a program, or the library of one, and saves its results for saved arguments.
APART = """
import sys
sys.modules["seqnorm"] = None  # an import would fail
import torch
kind, program, given, found = sys.argv[1:]
if kind == "aoti":
    run = torch._inductor.aoti_load_package(program)
else:
    run = torch.export.load(program).module()
with torch.no_grad():
    torch.save([run(*arguments) for arguments in torch.load(given)], found)
"""


class WithLengths(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.layer(x, None, lengths)


def trained(layer: Any) -> Any:
    """Return a layer in inference, whose tables hold statistics of 6 steps."""
    for _ in range(3):
        layer(torch.randn(6, 16, INPUT))
    return layer.eval()


def drawn(steps: int, batch: int, lengths: bool) -> tuple[Tensor, ...]:
    x = torch.randn(steps, batch, INPUT)
    if not lengths:
        return (x,)
    found = torch.randint(0, steps + 1, (batch,))
    for number, length in enumerate(found.tolist()):
        x[length:, number] = float("nan")
    return x, found


def exported(layer: Any, lengths: bool, steps: Any = T, own: bool = True) -> Any:
    """Return a program of a layer, with the operator of the library or by ``to_program``."""
    module = WithLengths(layer) if lengths else layer
    free = {1: B} if steps is None else {0: steps, 1: B}
    shapes = (free, {0: B}) if lengths else (free,)
    args = (torch.zeros(5, 3, INPUT), torch.tensor([5, 2, 3]))[: 1 + lengths]
    if own:
        return torch.export.export(module, args, dynamic_shapes=shapes)
    return to_program(module, args, dynamic_shapes=shapes)


def operators(program: Any) -> list[str]:
    """Return the operators of this library that a program calls."""
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return [name for name in names if "seqnorm" in name]


def flat(results: Any) -> list[Tensor]:
    output, states = results
    return [output, *(states if isinstance(states, tuple) else (states,))]


def definition(layer: Any, given: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the results of a layer by its definition in float64."""
    x, *lengths = given
    layer = layer.double()
    with torch.no_grad(), seqnorm.use_backend("reference"):
        results = flat(layer(x.double(), None, *lengths))
    layer.float()
    return results


def assert_equal(found: Any, expected: list[Tensor]) -> None:
    found = flat(found) if len(found) == 2 else list(found)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


CASES: dict[str, tuple[Any, bool, bool]] = {  # the layer, with lengths, any T
    "LSTM": (lambda: seqnorm.LSTM(INPUT, HIDDEN, norm="layer"), False, True),
    "two directions": (
        lambda: seqnorm.GRU(INPUT, HIDDEN, norm="rms", bidirectional=True, zoneout=0.1),
        True,
        True,
    ),
    "parts of a state": (lambda: seqnorm.SLSTM(INPUT, HIDDEN, norm="layer"), True, True),
    "projected": (lambda: seqnorm.LSTM(INPUT, HIDDEN, norm="haste", proj_size=3), True, True),
    "tables": (lambda: seqnorm.LSTM(INPUT, HIDDEN, norm="batch"), False, False),
    "one table": (lambda: seqnorm.GRU(INPUT, HIDDEN, norm="batch_pooled"), False, False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_decomposed_program_computes_what_the_layer_does(case: str) -> None:
    make, lengths, any_length = CASES[case]
    layer = trained(make())
    program = exported(layer, lengths, T if any_length else None)
    assert operators(program)
    found = decompose(program)
    assert not operators(found)
    assert operators(program), "the program itself is unchanged"
    for steps, batch in SIZES if any_length else ((5, 4), (5, 1)):
        given = drawn(steps, batch, lengths)
        with torch.no_grad():
            assert_equal(found.module()(*given), definition(layer, given))


def test_a_saved_program_runs_without_the_library(tmp_path: Path) -> None:
    layer = seqnorm.LSTM(INPUT, HIDDEN, norm="layer").eval()
    torch.export.save(exported(layer, True), tmp_path / "own.pt2")
    program = decompose(torch.export.load(tmp_path / "own.pt2"))
    torch.export.save(program, tmp_path / "program.pt2")
    runs_apart("program", tmp_path / "program.pt2", layer, True)


def runs_apart(kind: str, program: Path, layer: Any, lengths: bool) -> None:
    """Compare a program in a process that cannot import seqnorm with its layer."""
    folder = program.parent
    given = [drawn(steps, batch, lengths) for steps, batch in SIZES]
    torch.save(given, folder / "given.pt")
    files = (str(program), str(folder / "given.pt"), str(folder / "found.pt"))
    command = [sys.executable, "-c", APART, kind, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for arguments, found in zip(given, torch.load(folder / "found.pt")):
        assert_equal(found, definition(layer, arguments))


def test_statistics_of_every_step_with_any_length() -> None:
    """``torch.export.export`` alone fixes T and refuses lengths for such a layer."""
    layer = trained(seqnorm.LSTM(INPUT, HIDDEN, norm="batch"))
    program = exported(layer, True, own=False)
    assert not operators(program)
    assert decompose(program) is program
    for steps, batch in SIZES:
        given = drawn(steps, batch, True)
        with torch.no_grad():
            assert_equal(program.module()(*given), definition(layer, given))


def test_a_decomposed_program_becomes_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the export to ONNX needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="the file runs in onnxruntime")
    layer = seqnorm.LSTM(INPUT, HIDDEN, norm="layer").eval()
    path = tmp_path / "layer.onnx"
    program = decompose(exported(layer, False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own code
        torch.onnx.export(program, f=path, dynamo=True, verbose=False)
    session = runtime.InferenceSession(path)
    (name,) = [one.name for one in session.get_inputs()]
    for steps, batch in SIZES:
        given = drawn(steps, batch, False)
        found = session.run(None, {name: given[0].numpy()})
        assert_equal([torch.from_numpy(one) for one in found], definition(layer, given))


def test_what_cannot_be_decomposed_is_refused() -> None:
    layer = seqnorm.LSTM(INPUT, HIDDEN, norm="layer").eval()
    with pytest.raises(TypeError, match="takes an ExportedProgram, got LSTM"):
        decompose(layer)  # type: ignore[arg-type]
    drawing = seqnorm.LSTM(INPUT, HIDDEN, norm="layer", zoneout=0.2).train()
    with torch.no_grad():
        program = exported(drawing, False)
    with pytest.raises(ValueError, match=r"call model.eval\(\) before"):
        decompose(program)
    with pytest.raises(ValueError, match=r"call .eval\(\) on the model"):
        exported(seqnorm.LSTM(INPUT, HIDDEN, norm="batch"), False, own=False)


def compiling() -> None:
    if os.environ.get("SEQNORM_COMPILE") != "1":
        pytest.skip("a C++ compiler works for minutes: nox -s programs, or SEQNORM_COMPILE=1")


@pytest.mark.filterwarnings("ignore")  # of the compiler's own code
@pytest.mark.parametrize("lengths", [False, True])
def test_a_compiled_program_runs_without_the_library(lengths: bool, tmp_path: Path) -> None:
    compiling()
    layer = seqnorm.LSTM(INPUT, HIDDEN, norm="layer").eval()
    path = tmp_path / "layer.pt2"
    program = decompose(exported(layer, lengths))
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    runs_apart("aoti", path, layer, lengths)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chapter", ["AOTInductor", "ExecuTorch"])
def test_the_code_of_the_page(
    chapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that the tests of all pages leave out, after the code before it."""
    if chapter == "AOTInductor":
        compiling()
    else:
        pytest.importorskip("executorch.exir", reason=WITHOUT_EXECUTORCH)
    monkeypatch.chdir(tmp_path)
    text = read(DOCS / "programs.md")
    scope: dict[str, Any] = {}
    exec("\n".join(blocks(DOCS / "programs.md", "python")), scope)
    ((_, _, code),) = BLOCK.findall(text.split(f"## {chapter}\n")[1].split("\n## ")[0])
    exec(code, scope)
    x = scope["x"]
    if chapter == "AOTInductor":
        assert_equal((scope["output"], (scope["h"], scope["c"])), definition(scope["layer"], (x,)))
        expected = scope["model"](x, scope["lengths"])
        torch.testing.assert_close(scope["last"], expected, rtol=1e-5, atol=1e-5)
    else:
        states = definition(scope["layer"], (x[:, :1],))[1:]
        assert_equal(list(scope["state"]), states)


@pytest.mark.filterwarnings("ignore")  # of the runtime's own code
@pytest.mark.parametrize("runtime", ["portable", "xnnpack"])
@pytest.mark.parametrize("norm", ["layer", "rms", "batch", None])
def test_one_step_runs_in_executorch(runtime: str, norm: str | None) -> None:
    exir = pytest.importorskip("executorch.exir", reason=WITHOUT_EXECUTORCH)
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass
    from executorch.runtime import Runtime

    partitioners = []
    if runtime == "xnnpack":
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        partitioners = [XnnpackPartitioner()]
    layer = seqnorm.LSTM(INPUT, HIDDEN, 2, norm=norm)
    for _ in range(3):
        layer(torch.randn(6, 16, INPUT))
    graph = NamedGraph(layer.eval(), lengths=False, states=True, resets=False, step=True)
    shapes = {name: [1 if n == "B" else n for n in a.shape] for name, a in graph.arguments.items()}
    examples = tuple(
        torch.zeros(shapes[name], dtype=argument.dtype)
        for name, argument in graph.arguments.items()
    )
    program = constant_prop_pass(to_program(graph, examples))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=partitioners).to_executorch()
    method = Runtime.get().load_program(lowered.buffer).load_method("forward")
    for number in range(3):
        given = [
            torch.randn_like(one) if one.is_floating_point() else torch.full_like(one, number)
            for one in examples
        ]
        found = method.execute(given)
        with torch.no_grad():
            expected = graph.double()(
                *[one.double() if one.is_floating_point() else one for one in given]
            )
        graph.float()
        assert_equal(list(found), list(expected))


@pytest.mark.filterwarnings("ignore")
def test_sequences_of_any_length_run_in_executorch() -> None:
    exir = pytest.importorskip("executorch.exir", reason=WITHOUT_EXECUTORCH)
    from executorch.runtime import Runtime

    layer = seqnorm.LSTM(INPUT, HIDDEN, norm="layer").eval()
    sizes = ({0: torch.export.Dim("T", min=2, max=64)},)
    program = torch.export.export(layer, (torch.zeros(5, 1, INPUT),), dynamic_shapes=sizes)
    lowered = exir.to_edge_transform_and_lower(decompose(program)).to_executorch()
    method = Runtime.get().load_program(lowered.buffer).load_method("forward")
    for steps in (5, 9, 2):
        given = drawn(steps, 1, False)
        assert_equal(list(method.execute(given)), definition(layer, given))
