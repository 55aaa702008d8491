"""Calls that the kernels take, reasons for refusing others, and machines without kernels.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from beside_reference import F32, F64, Call, build, needs_kernels, refusal, taken
from hidden_states import parts_of
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends import cpu
from seqnorm.nn.backends.cpu import kernels, library
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.recurrence.packing import Packing
from seqnorm.nn.statistics.processes import Processes

I, H, T, B = 3, 8, 4, 3  # noqa: E741  the axes' letters
JOINT = Norm("layer")
APART = Norm("layer", "separate")
ABSENT = "its kernels were lost"

# Options of a layer, its dtype, and the reason why the kernels do not take it.
REFUSED: list[tuple[str, dict[str, Any], torch.dtype, str]] = [
    ("LSTM", {"norm": "layer", "proj_size": 2}, torch.bfloat16, "no kernel in bfloat16"),
    ("SLSTM", {"norm": "layer"}, torch.bfloat16, "no kernel in bfloat16"),
    *(
        (cell, {"norm": norm}, F64, f"it has no kernel for the {cell}")
        for cell in LAYERS
        if cell not in library.STEPS
        for norm in (None, "layer")
    ),
    *(
        (cell, {"norm": "layer"}, torch.float16, "only in float32, float64 and bfloat16")
        for cell in library.STEPS
    ),
    *(
        (
            cell,
            {"norm": NormScheme(input=JOINT, hidden=JOINT, bias_hh=place)},
            F64,
            "it has no kernel with a bias of W_hh h before its norm",
        )
        for cell in library.STEPS
        for place in ("inside", "both")
    ),
    *(
        (
            "GRU",
            {"norm": NormScheme(**{site: Norm("rms", window=3)})},
            F64,
            "earlier steps (window)",
        )
        for site in ("input", "hidden", "frame", "output")
    ),
    *(
        (cell, {"norm": norm}, F64, "norms of the batch and of a row together in the recurrence")
        for cell, norm in (
            ("LSTM", NormScheme(sum=Norm("batch"), cell=JOINT, bias_ih=None)),
            ("LSTM", NormScheme(input=JOINT, hidden=Norm("batch"))),
            ("LSTM", NormScheme(input=JOINT, hidden=JOINT, cell=Norm("batch"))),
            ("LSTM", NormScheme(input=Norm("batch"), hidden=Norm("rms"), cell=Norm("batch"))),
            ("GRU", NormScheme(input=Norm("rms"), hidden=Norm("batch"))),
        )
    ),
    *(
        (cell, {"norm": NormScheme(hidden=Norm("batch", eps_on="std"))}, F64, "standard deviation")
        for cell in library.STEPS
    ),
    (
        "LSTM",
        {"norm": NormScheme(cell=Norm("batch", eps_on="std"))},
        F64,
        "eps added to the standard deviation",
    ),
    (
        "GRU",
        {"norm": NormScheme(input=JOINT, hidden=Norm("rms", eps_on="std"))},
        F64,
        "eps added to the standard deviation",
    ),
    ("LSTM", {"norm": NormScheme(cell=Norm("layer", 2))}, F64, "it has no kernel for sets=2"),
    ("LSTM", {"norm": NormScheme(hidden=Norm("layer", 8))}, F64, "it has no kernel for sets=8"),
    ("GRU", {"norm": NormScheme(input=Norm("rms", 2))}, F64, "it has no kernel for sets=2"),
    *(
        (
            cell,
            {"norm": NormScheme(input=JOINT, hidden=APART)},
            F64,
            "it has no kernel for different sets of x and h",
        )
        for cell in ("LSTM", "GRU", "LiGRU")  # the others have one gate
    ),
]
# Reasons that depend on the call, or on the installation.
SHARED = "its kernels take the statistics of one process, and here several share theirs"
OLD_COMPILER = "under torch.compile and torch.export its kernels need torch 2.4"
UNKNOWN_KIND = "it has no kernel for the norm "
OF_A_CALL = [
    UNKNOWN_KIND,
    "its kernels do not say how many operations they are",
    "its kernels take only plain tensors, no subclasses and none inside torch.func",
    "its kernels are for the CPU, and the input is on meta",
    "its kernels compute only in float32, float64 and bfloat16",
    # see test_cpu_half.py
    "its kernels do not compute in bfloat16 in graphs and under tools that watch a call",
    # see test_cpu_int8.py
    "its kernels take weights of int8 only under torch.no_grad(), and not in graphs",
    "no rows",
    "its kernels have no forward-mode derivatives",  # see test_cpu_transforms.py
    "torch.jit.trace does not see what its kernels do",  # see test_cpu_watched.py
    "its kernels take input, weights and states of one dtype, on the CPU",
    SHARED,
    OLD_COMPILER,
]


def reasons_in_the_source() -> Iterator[str]:
    """Return the first literal part of every text that ``claims`` or its functions return."""
    for module in (
        cpu,
        inspect.getmodule(cpu.plan_of),
        inspect.getmodule(cpu.refusal),
    ):
        assert module is not None
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(function, ast.FunctionDef):
                continue
            if function.returns is None or ast.unparse(function.returns) != "str | None":
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    value = node.value.body if isinstance(node.value, ast.IfExp) else node.value
                    if isinstance(value, ast.JoinedStr):
                        value = value.values[0]
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.value


def test_a_kind_of_norm_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LAYERS["LSTM"](I, H, norm="rms")
    known = {kind: number for kind, number in library.KINDS.items() if kind != "rms"}
    monkeypatch.setattr(inspect.getmodule(cpu.plan_of), "KINDS", known)
    assert refusal(layer) == UNKNOWN_KIND + "'rms'"


def test_every_reason_is_tested() -> None:
    source = set(reasons_in_the_source())
    assert len(source) >= 10
    texts = OF_A_CALL + [refusal(build_as(*case[:3])) or "" for case in REFUSED]
    for reason in source:
        assert any(text.startswith(reason) for text in texts), reason


def build_as(cell: str, options: dict[str, Any], dtype: torch.dtype) -> Any:
    return LAYERS[cell](I, H, dtype=dtype, **options)


def results(layer: Any, x: Tensor, lengths: list[int] | None) -> tuple[Tensor, ...]:
    """Return results in inference, where zoneout draws nothing and no statistic changes."""
    output, last = layer.eval()(x, lengths=lengths)
    return output, *parts_of(last)


def assert_refused(layer: Any, x: Tensor, reason: str, lengths: list[int] | None = None) -> None:
    """The pinned kernels raise with the reason; otherwise the definition computes the call."""
    message = f"backend 'cpu' does not take this call: .*{re.escape(reason)}"
    with seqnorm.use_backend("cpu"), pytest.raises(RuntimeError, match=message):
        results(layer, x, lengths)
    with seqnorm.use_backend("reference"):
        expected = results(layer, x, lengths)
    for found, value in zip(results(layer, x, lengths), expected):
        assert found.dtype == value.dtype
        if x.device.type == "cpu":
            assert_equal(found, value)


@pytest.mark.parametrize(
    ("cell", "options", "dtype", "reason"),
    REFUSED,
    ids=[f"{k} {case[0]} {case[3][-20:]}" for k, case in enumerate(REFUSED)],
)
def test_what_they_do_not_take(
    cell: str, options: dict[str, Any], dtype: torch.dtype, reason: str
) -> None:
    layer = build_as(cell, options, dtype)
    assert reason in (refusal(layer) or "")
    assert_refused(layer, torch.randn(T, B, I).to(dtype), reason, [4, 1, 2])


@pytest.mark.parametrize("cell", library.STEPS)
def test_a_call_elsewhere_or_of_nothing(cell: str) -> None:
    layer = LAYERS[cell](I, H, norm="layer")
    assert_refused(layer, torch.randn(T, B, I), "no rows", [0] * B)
    assert_refused(layer, torch.randn(0, B, I), "no rows")
    assert_refused(layer, torch.randn(T, 0, I), "no rows")
    with torch.autocast("cpu", dtype=torch.float16):
        assert_refused(layer, torch.randn(T, B, I), "only in float32, float64 and bfloat16")
    meta = LAYERS[cell](I, H, norm="layer", device="meta")
    assert_refused(
        meta, torch.randn(T, B, I, device="meta"), "for the CPU, and the input is on meta"
    )


class Marked(Tensor):
    """A tensor subclass of a user."""


@pytest.mark.parametrize("cell", library.STEPS)
def test_a_call_of_no_plain_tensors(cell: str) -> None:
    layer = LAYERS[cell](I, H, norm="layer")
    x = torch.randn(T, B, I)
    assert_refused(layer, x.as_subclass(Marked), "only plain tensors")
    with pytest.raises(RuntimeError, match="only plain tensors"), seqnorm.use_backend("cpu"):
        torch.func.vmap(lambda one: layer(one)[0])(x[None])
    with FlopCounterMode(display=False):
        assert_refused(layer, x, "do not say how many operations they are")


FOREIGN = """
import torch, seqnorm
from torch import nn
def meta(layer): layer.to("meta")
def matrix(layer): layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.data.double())
def norm(layer): layer.norm_ih_l0.half()
def bias(layer): layer.norm_cell_l0.bias = nn.Parameter(layer.norm_cell_l0.bias.data.to("meta"))
def call(layer, x):
    try:
        return layer(x)[0].detach()
    except (RuntimeError, ValueError):
        return None
for change in (meta, matrix, norm, bias):
    layer, x = seqnorm.LSTM(3, 8, norm="layer"), torch.randn(4, 2, 3)
    change(layer)
    with seqnorm.use_backend("reference"):
        expected = call(layer, x)
    found = call(layer, x)
    same = found is None if expected is None else torch.allclose(found, expected)
    assert same, f"{change.__name__}: {found} instead of {expected}"
"""


@needs_kernels
def test_weights_of_another_dtype_or_device() -> None:
    """They raise an error as in the definition, and memory is not read with a wrong type.

    The test runs in a process of its own, because such a read can end the process.
    """
    process = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@needs_kernels
def test_they_are_taken_where_nothing_better_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own kernels compute layers without a norm and equal lengths, ours the others."""
    calls: list[str] = []
    run_layer = cpu.run_layer
    monkeypatch.setattr(
        cpu,
        "run_layer",
        lambda layer: (calls.extend(call[0].step.name for call in layer), run_layer(layer))[1],
    )
    x = torch.randn(T, B, I)
    seqnorm.LSTM(I, H)(x)
    seqnorm.GRU(I, H)(x, lengths=[T] * B)
    seqnorm.RNN(I, H, nonlinearity="relu")(x)
    assert calls == []
    seqnorm.LiGRU(I, H)(x)  # of which torch has no layer
    seqnorm.IndRNN(I, H)(x, lengths=[T] * B)
    assert calls == ["LiGRU", "IndRNN"]
    calls.clear()
    seqnorm.LSTM(I, H)(x, lengths=[4, 1, 2])
    seqnorm.GRU(I, H, norm="layer")(x)
    seqnorm.LSTM(I, H, 2, bidirectional=True, norm="rms")(x)
    seqnorm.LSTM(I, H, recurrent_dropout=0.5, norm="rms")(x)
    assert calls == ["LSTM", "GRU", *["LSTM"] * 5]
    with seqnorm.use_backend("reference"):
        seqnorm.LSTM(I, H, norm="layer")(x)
    assert len(calls) == 7


@needs_kernels
def test_status_says_what_of_the_machine_is_used() -> None:
    there, text = cpu.status()
    assert there
    asked = " (chosen by SEQNORM_KERNELS)" if library.ASKED else ""
    assert text.split(",")[0] == (library.ASKED or list(library.VARIANTS)[-1]) + asked
    assert text.endswith(("PyTorch's threads", "one thread (no OpenMP found)"))
    assert next(iter(library.VARIANTS)) == "base"
    assert list(library.VARIANTS) == ["base", "avx2", "avx512"][: len(library.VARIANTS)]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an installation without a C compiler."""
    for module in (cpu, library, kernels):
        monkeypatch.setattr(module, "LIBRARY", None)
    for module in (cpu, library):
        monkeypatch.setattr(module, "WHY_NOT", ABSENT)
    monkeypatch.setattr(cpu, "_warned", [])


@pytest.mark.usefixtures("absent")
def test_without_kernels_there_is_one_warning() -> None:
    """It comes at the first call that they would have taken, at the line of the call."""
    assert cpu.status() == (False, ABSENT)
    assert seqnorm.available_backends()["cpu"] == f"absent: {ABSENT}"
    layer = build("LSTM", "layer", I, H)
    x = torch.randn(T, B, I, dtype=F64)
    seqnorm.LSTM(I, H, dtype=F64)(x)  # computed by torch
    for norm in (None, NormScheme()):
        seqnorm.LSTM(I, H, norm=norm, dtype=F64)(x, lengths=[4, 1, 2])  # without a norm
    by_deviation = NormScheme(input=Norm("layer", eps_on="std"))
    seqnorm.GRU(I, H, norm=by_deviation, dtype=F64)(x)  # computed by the definition in any case
    layer(x, lengths=[0] * B)
    with pytest.warns(UserWarning, match=f"normalised layers are slow here, .*{ABSENT}") as caught:
        found = layer(x)[0]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with seqnorm.use_backend("reference"):
        assert_equal(found, layer(x)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)
        build("GRU", "layer", I, H)(x)


@pytest.mark.usefixtures("absent")
def test_without_kernels_their_name_raises() -> None:
    layer = build("GRU", "layer", I, H)
    x = torch.randn(T, B, I, dtype=F64)
    with (
        pytest.warns(UserWarning, match="slow here"),
        seqnorm.use_backend("cpu"),
        pytest.raises(RuntimeError, match=f"'cpu' does not take this call: {ABSENT}"),
    ):
        layer(x)


@pytest.mark.usefixtures("absent")
def test_without_kernels_gradients_are_the_definitions() -> None:
    cpu._warned.append(ABSENT)
    for name, (cell, norm) in taken().items():
        layer = build(cell, norm, I, H).eval()
        call = Call.draw(layer, [4, 1, 2])
        grads = []
        for backend in (None, "reference"):
            x = call.input.clone().requires_grad_()
            if backend is None:
                output = layer(x, lengths=call.lengths)[0]
            else:
                with seqnorm.use_backend(backend):
                    output = layer(x, lengths=call.lengths)[0]
            grads += torch.autograd.grad(output.square().sum(), x)
        assert_close(grads[0], grads[1], VALUES, name)


def test_dtypes_that_they_take() -> None:
    for dtype in (F32, F64):
        for cell in library.STEPS:
            assert refusal(LAYERS[cell](I, H, norm="layer", dtype=dtype)) in (None, library.WHY_NOT)


@needs_kernels
def test_statistics_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = seqnorm.convert_sync_batchnorm(seqnorm.LSTM(I, H, norm="batch"))
    monkeypatch.setattr(Processes, "several", True)
    twice = lambda processes, own, first, device: [2 * n for n in own]  # noqa: E731  short
    monkeypatch.setattr(Processes, "rows", twice)
    with seqnorm.use_backend("cpu"):
        with pytest.raises(RuntimeError, match=SHARED):
            layer(torch.randn(4, 3, I))
        layer.eval()(torch.randn(4, 3, I))


def test_a_compiler_that_cannot_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    (direction,) = seqnorm.LSTM(I, H).directions()
    packing = Packing.of_equal_lengths(2, 3, torch.device("cpu"))
    call = direction, torch.randn(6, I), packing, (torch.zeros(2, H), torch.zeros(2, H))
    monkeypatch.setattr(cpu, "COMPILES", False)
    assert cpu.claims(*call) in (None, library.WHY_NOT)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert cpu.claims(*call) == OLD_COMPILER
