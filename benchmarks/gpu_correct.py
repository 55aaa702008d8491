"""Results of the Triton kernels on a device, against the definition in float64 there.

``python benchmarks/gpu.py`` runs these cases first. A difference is relative to the largest value
of its tensor (or to ``FLOOR`` if that is smaller), and the largest one of output, final state and
all gradients counts. In float32 and half precision the limit is some times the difference of the
definition in the same precision. A case that raises an error is a row with the error, and the
others go on. A check that a device cannot do is a row with the reason.

Axes: T steps, B sequences, I = input size, H = hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

import seqnorm
from seqnorm.nn.layers.cells import LAYERS

COLUMNS = (
    *("what", "cell", "norm", "dtype", "T", "B", "H", "lengths", "resets", "zoneout"),
    *("difference", "limit", "right", "error"),
)
CELLS = ("LSTM", "GRU", "RNN", "LiGRU")
NORMS = (
    *("none", "layer", "rms", "kiros2016", "ba2016", "icefall", "dreamer", "haste"),
    *("moumen2023", "batch", "laurent2016"),
)
SIZES, BATCHES = (24, 64, 100, 128, 256, 300), (1, 5, 17, 64)
STATES = {"LSTM": "hc", "GRU": "h", "RNN": "h", "LiGRU": "h"}
FIRST = 16  # of the cases, before the other checks
NUMBER = 60  # of cases that are drawn out of all combinations
LIMIT = 1e-9  # in float64
# A limit is a factor times the difference of the definition, or times the least one. Functions
# such as exp are less exact on a GPU than on a CPU, but not by more than some units of the last
# place.
FACTORS = {"float32": (16.0, 2.0**-17), "bfloat16": (4.0, 2.0**-7), "float16": (4.0, 2.0**-7)}
# cuBLAS may sum in another order in a graph and on another stream.
OTHER_ORDER = 1e-5
# Some gradients are zero but for rounding, as that of a bias before a norm that subtracts a mean.
FLOOR = 0.01
SKIPPED = "skipped"
Row = dict[str, Any]
Check = Callable[["Case", torch.device], tuple[float, float]]


class SkippedError(Exception):
    """A check needs something that is not there. PyTorch never raises it, unlike its own errors."""


class Case(NamedTuple):
    """A layer and a call of it."""

    cell: str
    norm: str
    dtype: str
    T: int
    B: int
    H: int
    ragged: bool = False
    resets: bool = False
    zoneout: float = 0.0


def cases() -> list[Case]:
    """Return the same sample of all combinations every time, the most usual cases first."""
    first = [
        Case(cell, of_rows(cell), dtype, 7, 17, H, ragged=True)
        for cell in CELLS
        for H in (64, 256)
        for dtype in ("float32", "float64")
    ]
    known = [(cell, norm) for cell in CELLS for norm in NORMS if exists(cell, norm)]
    options: list[Any] = list(
        product(known, ("float32", "float64"), SIZES, BATCHES, *[(False, True)] * 2, (0.0, 0.3))
    )
    random.Random(1).shuffle(options)
    found: dict[tuple[Any, ...], int] = {}
    drawn = []
    for (cell, norm), dtype, H, B, ragged, resets, zoneout in options:
        if B == 1 and norm in ("batch", "laurent2016"):
            continue  # such a batch has no statistics
        seen = found.get((cell, norm), 0)
        if seen < -(-NUMBER // len(known)):  # as many of each
            found[cell, norm] = seen + 1
            drawn.append(Case(cell, norm, dtype, 7, B, H, ragged, resets, zoneout))
    return first + drawn


def of_rows(cell: str) -> str:
    """Return the preset of LayerNorm in the recurrence; "layer" of a LiGRU is of its input."""
    return "moumen2023" if cell == "LiGRU" else "layer"


def exists(cell: str, norm: str) -> bool:
    return norm == "none" or cell in seqnorm.PRESETS[norm]


class Call:
    """The layer of a case in float64 with the values of float32, its inputs and cotangents."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(case.H + case.B)
        norm = None if case.norm == "none" else case.norm
        options: dict[str, Any] = {"zoneout": case.zoneout} if case.zoneout else {}
        self.layer = LAYERS[case.cell](32, case.H, norm=norm, **options)
        for name, parameter in self.layer.named_parameters():
            if "bias" in name:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
        self.layer = self.layer.double().to(device)
        if case.zoneout:
            self.layer.eval()  # whose expectation has no random numbers
        B, T = case.B, case.T
        self.input = torch.randn(T, B, 32).to(device)
        self.lengths = [T, *[1 + (3 * b) % T for b in range(1, B)]] if case.ragged else None
        self.resets = (torch.rand(T, B) < 0.2).to(device) if case.resets else None
        self.weights = torch.randn(T, B, case.H).to(device)
        # Statistics of every step do not know how far a first state has come since its reset.
        number = 0 if case.norm == "batch" and case.resets else len(STATES[case.cell])
        self.states = [torch.randn(1, B, case.H).to(device) for _ in range(number)]

    def results(self, backend: str, dtype: torch.dtype, autocast: Any = None) -> list[Tensor]:
        """Return output, final state and the gradients of input, first state and parameters."""
        layer = self.layer.to(dtype)
        tables = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        x, *first = [tensor.to(dtype).requires_grad_() for tensor in (self.input, *self.states)]
        options: dict[str, Any] = {} if self.resets is None else {"resets": self.resets}
        with seqnorm.use_backend(backend), autocast or nullcontext():
            hx: Any = tuple(first) if len(first) > 1 else first[0] if first else None
            output, last = layer(x, hx, lengths=self.lengths, **options)
        states = last if isinstance(last, tuple) else (last,)
        loss = (output.double() * self.weights.double()).sum()
        loss = loss + sum(state.double().sum() for state in states)
        grads = torch.autograd.grad(loss, [x, *first, *layer.parameters()])
        with torch.no_grad():
            for name, buffer in layer.named_buffers():
                buffer.copy_(tables[name])
        return [t.detach().double() for t in (output, *states, *grads)]


def difference(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest relative difference of any tensor; infinity where one is not finite."""
    assert len(actual) == len(expected)
    worst = 0.0
    for one, other in zip(actual, expected):
        scale = max(FLOOR, other.abs().max().item())
        apart = (one - other).abs().max().item() / scale
        worst = max(worst, apart if apart == apart else float("inf"))
    return worst


def row_of(case: Case, what: str, compute: Callable[[], tuple[float, float]]) -> Row:
    """Return the row of a comparison that returns a difference and its limit, or raises."""
    row: Row = dict(zip(COLUMNS, (what, *case[:6]))) | {
        "lengths": "ragged" if case.ragged else "equal",
        "resets": case.resets,
        "zoneout": case.zoneout,
    }
    try:
        found, limit = compute()
    except SkippedError as reason:
        return row | {"right": SKIPPED, "error": str(reason)}
    except Exception as error:  # so that one error does not hide the rest
        return row | {"right": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return row | {"difference": f"{found:.3g}", "limit": f"{limit:.3g}", "right": found <= limit}


def compared(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a case in its own dtype."""
    call = Call(case, device)
    expected = call.results("reference", torch.float64)
    actual = difference(call.results("triton", getattr(torch, case.dtype)), expected)
    if case.dtype == "float64":
        return actual, LIMIT
    return actual, limit(case, difference(call.results("reference", torch.float32), expected))


def limit(case: Case, of_definition: float) -> float:
    """Return the largest difference that is right, from that of the definition."""
    factor, least = FACTORS[case.dtype]
    return factor * max(of_definition, least)


def under_autocast(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a case under autocast with the definition under autocast."""
    call = Call(case, device)
    expected = call.results("reference", torch.float64)

    def results(backend: str) -> list[Tensor]:
        autocast = torch.autocast(device.type, getattr(torch, case.dtype))
        return call.results(backend, torch.float32, autocast)

    other = difference(results("reference"), expected)
    return difference(results("triton"), expected), limit(case, other)


def drawn_zoneout(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a call in training, in which both draw the same units that zoneout holds back."""
    call = Call(case._replace(zoneout=0.3), device)
    call.layer.train()
    found = []
    for backend in ("triton", "reference"):
        torch.manual_seed(0)
        found.append(call.results(backend, torch.float32))
    return difference(*found), limit(case, 0.0)


def repeated(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare two equal calls to the last bit."""
    call = Call(case, device)
    first, second = (call.results("triton", torch.float32) for _ in range(2))
    return difference(second, first), 0.0


def on_another_stream(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a call on a second stream."""
    needs_gpus(device)
    call = Call(case, device)
    expected = call.results("triton", torch.float32)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        actual = call.results("triton", torch.float32)
    torch.cuda.current_stream(device).wait_stream(stream)
    return difference(actual, expected), OTHER_ORDER


def needs_gpus(device: torch.device, number: int = 1) -> None:
    """Raise ``SkippedError`` if there are fewer GPUs."""
    there = torch.cuda.device_count() if device.type == "cuda" else 0
    if there < number:
        raise SkippedError(f"it needs GPUs: {number}, and here are {there}")


def on_the_last_device(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a call on the last GPU while the first one is the current device."""
    needs_gpus(device, 2)
    last = torch.device(device.type, torch.cuda.device_count() - 1)
    actual = Call(case, last).results("triton", torch.float32)
    expected = Call(case, device).results("triton", torch.float32)
    return difference([tensor.to(device) for tensor in actual], expected), OTHER_ORDER


def captured(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare a call that is replayed from a CUDA graph, with inputs other than those it saw."""
    needs_gpus(device)
    call = Call(case, device)
    layer = call.layer.float()
    x = call.input.clone()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with seqnorm.use_backend("triton"), torch.no_grad():
        with torch.cuda.stream(stream):
            layer(x)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output, _ = layer(x)
        x.copy_(call.input.flip(0))
        graph.replay()
        expected, _ = layer(x)
    return difference([output], [expected]), OTHER_ORDER


def graphed(case: Case, device: torch.device) -> tuple[float, float]:
    """Compare torch.cuda.make_graphed_callables, forward and backward."""
    needs_gpus(device)
    call = Call(case, device)
    layer = call.layer.float()
    parameters = list(layer.parameters())

    def results(compute: Any) -> list[Tensor]:
        x = call.input.clone().requires_grad_()
        output = compute(x)[0]
        return [output, *torch.autograd.grad((output * call.weights).sum(), [x, *parameters])]

    with seqnorm.use_backend("triton"):
        expected = [tensor.clone() for tensor in results(layer)]
        compute = torch.cuda.make_graphed_callables(
            layer, (torch.randn_like(call.input).requires_grad_(),)
        )
        actual = results(compute)
    return difference(actual, expected), OTHER_ORDER


CHECKS: dict[str, Check] = {
    "autocast": under_autocast,
    "repeated": repeated,
    "zoneout": drawn_zoneout,
    "stream": on_another_stream,
    "graph": captured,
    "make_graphed_callables": graphed,
    "last device": on_the_last_device,
}
# These depend on launches and not on the equations of a cell, so that two cells are enough.
OF_LAUNCHES = ("stream", "graph", "make_graphed_callables", "last device")


class Job(NamedTuple):
    """A comparison that is not computed yet."""

    case: Case
    what: str
    check: Check

    def __str__(self) -> str:
        return f"{self.what}: {', '.join(map(str, self.case))}"

    def row(self, device: torch.device) -> Row:
        return row_of(self.case, self.what, lambda: self.check(self.case, device))


def jobs(few: bool = False) -> list[Job]:
    """Return the job of every case: those without which nothing else matters, first.

    Args:
        few: true for small cases, to see that the program runs.
    """
    if few:
        every = [Case(cell, of_rows(cell), "float32", 3, 2, 5, ragged=True) for cell in CELLS]
        every.append(Case("LSTM", "batch", "float64", 3, 4, 5))
    else:
        every = cases()
    found = [Job(case, "device", compared) for case in every]
    others = []
    for name, check in CHECKS.items():
        cells = CELLS[:2] if name in OF_LAUNCHES else CELLS
        for cell, H in product(cells, (5,) if few else (128, 512)):
            halves = ("float16",) if few else ("bfloat16", "float16")
            for dtype in halves if name == "autocast" else ("float32",):
                sizes = (3, 2) if few else (7, 17)
                case = Case(cell, of_rows(cell), dtype, *sizes, H)
                others.append(Job(case, name, check))
    # The sample is long, and graphs, streams and half precision must not wait for its end.
    return [*found[:FIRST], *others, *found[FIRST:]]
