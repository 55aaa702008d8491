"""The times of the Triton kernels and of others on a GPU, shape by shape.

``python benchmarks/gpu.py`` runs these shapes after ``gpu_correct``. The contestants of a shape
take turns. A contestant that raises an error has the error in place of a time.

Axes: T steps, B sequences, H units and inputs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import geometric_mean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import seqnorm

COLUMNS = (
    *("cell", "norm", "mode", "precision", "lengths", "T", "B", "H"),
    *("triton_ms", "graph_ms", "cudnn_ms", "eager_ms", "compiled_ms", "ratio", "repeats"),
    *("triton_mib", "cudnn_mib", "errors"),
)
LAYERS = {"LSTM": (seqnorm.LSTM, nn.LSTM), "GRU": (seqnorm.GRU, nn.GRU)}
# (T, B, H), the most important first. The first one is that of published figures of FlashRNN and
# haste: in half precision without a norm, cuDNN 2.0 ms forward and 5.2 ms with the backward pass,
# FlashRNN 4.9 and 13.6, and haste 18.4 and 43.9 (H100).
SHAPES = (
    *((1024, 16, 768), (256, 64, 128), (256, 64, 256), (64, 64, 256), (256, 16, 64)),
    *((64, 256, 512), (256, 64, 512), (1024, 1, 128), (64, 1, 256), (256, 16, 256)),
    *((64, 64, 128), (256, 256, 256), (64, 16, 768), (256, 16, 1024), (1024, 64, 256)),
    *((64, 64, 64), (256, 1, 64), (64, 256, 128), (1024, 16, 128), (64, 256, 1024)),
    *((256, 1, 512), (64, 16, 512), (256, 64, 768), (1024, 1, 1024)),
)
# The contestants without kernels are slow, and are measured at this length alone.
SLOW = 64
PRECISIONS = ("bfloat16", "float32", "tf32")
# torch.compile unrolls the loop over time, and took more than 200 seconds for T = 64 on a CPU.
COMPILING = 240.0
SECONDS = 0.3  # for each shape, mode and precision
LEAST, MOST = 3, 50
Row = dict[str, Any]
Call = Callable[[], object]


class Job(NamedTuple):
    """The shape of a batch, and what is computed."""

    cell: str
    norm: str
    mode: str
    precision: str
    ragged: bool
    T: int
    B: int
    H: int
    beside: str = ""  # "eager" or "compiled": the definition takes part, and under torch.compile

    def __str__(self) -> str:
        names = (self.cell, self.norm, self.mode, self.precision, "ragged" if self.ragged else "")
        sizes = (f"T={self.T}", f"B={self.B}", f"H={self.H}", self.beside)
        return " ".join(filter(None, (*names, *sizes)))

    @property
    def seconds(self) -> float:
        """Return the seconds that must be left, because a compiler cannot be interrupted."""
        return COMPILING if self.beside == "compiled" else 0.0

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def lengths(self) -> list[int]:
        """Return lengths whose logarithms are spread evenly, from a twentieth of T to T."""
        if not self.ragged:
            return [self.T] * self.B
        return [max(1, round(self.T * 20 ** (-b / max(1, self.B - 1)))) for b in range(self.B)]


def jobs(shapes: Iterable[tuple[int, int, int]] = SHAPES, slow: int = SLOW) -> Iterator[Job]:
    """Yield the jobs, the most important first.

    They are LayerNorm in training; then inference, ragged batches and BatchNorm in one precision;
    then these in the others; and then the definition under torch.compile.

    Args:
        slow: the T of the shapes at which the definition takes part.
    """
    shapes = list(shapes)
    for T, B, H in shapes:
        for precision in PRECISIONS:
            for cell in LAYERS:
                beside = "eager" if (T, precision) == (slow, "float32") else ""
                yield Job(cell, "layer", "train", precision, False, T, B, H, beside)
    for precisions in (("bfloat16", "float32"), ("float32", "bfloat16"), ("tf32", "tf32")):
        for T, B, H in shapes:
            yield from _others(precisions, T, B, H)
    for T, B, H in shapes:
        for cell in LAYERS:
            if slow == T:
                yield Job(cell, "layer", "train", "float32", False, T, B, H, "compiled")


def _others(precisions: tuple[str, str], T: int, B: int, H: int) -> Iterator[Job]:
    """Yield the jobs of a shape beside LayerNorm in training, whose precision is the first one."""
    for cell in LAYERS:
        yield Job(cell, "layer", "infer", precisions[0], False, T, B, H)
        if B > 1:
            yield Job(cell, "layer", "train", precisions[0], True, T, B, H)
    if B > 1:
        yield Job("LSTM", "batch", "train", precisions[1], False, T, B, H)
        yield Job("LSTM", "batch", "infer", precisions[1], False, T, B, H)


def contestants(job: Job, device: torch.device) -> Iterator[tuple[str, Callable[[], Call]]]:
    """Yield the name of each contestant, and a function that prepares its call."""
    ours, torchs = LAYERS[job.cell]
    torch.manual_seed(0)
    x = torch.randn(job.T, job.B, job.H, device=device, dtype=job.dtype)
    lengths = job.lengths() if job.ragged else None

    def layer() -> nn.Module:
        made: nn.Module = ours(job.H, job.H, norm=job.norm, device=device, dtype=job.dtype)
        if (job.norm, job.mode) == ("batch", "infer"):  # it reads the statistics of training
            with seqnorm.use_backend("triton"), torch.no_grad():
                made(x)
        return made.train(job.mode == "train")

    def plain() -> nn.Module:
        made: nn.Module = torchs(job.H, job.H, device=device, dtype=job.dtype)
        return made.train(job.mode == "train")

    def by(backend: str, make: Callable[[], nn.Module] = layer) -> Call:
        made = make()

        def compute(x: Tensor) -> Tensor:
            with seqnorm.use_backend(backend):
                output: Tensor = made(x, lengths=lengths)[0]
            return output

        return step(made, compute, x, job.mode)

    def by_cudnn() -> Call:
        made = plain()

        def compute(x: Tensor) -> Tensor:
            if lengths is None:
                found: Tensor = made(x)[0]
                return found
            packed: Tensor = made(pack_padded_sequence(x, torch.tensor(lengths)))[0].data
            return packed

        return step(made, compute, x, job.mode)

    def compiled() -> nn.Module:
        made = layer()
        made.compile()
        return made

    yield "triton", partial(by, "triton")
    if lengths is None:
        yield "graph", lambda: in_graph(by("triton"), device)
    yield "cudnn", by_cudnn
    if job.beside:
        yield "eager", partial(by, "reference")
    if job.beside == "compiled":
        yield "compiled", partial(by, "reference", compiled)


def step(module: nn.Module, compute: Callable[[Tensor], Tensor], x: Tensor, mode: str) -> Call:
    """Return a call of a module, with its backward pass in training."""
    if mode == "infer":

        def call() -> Tensor:
            with torch.no_grad():
                return compute(x)

        return call
    leaf = x.clone().requires_grad_()
    leaves = [leaf, *module.parameters()]

    def both() -> tuple[Tensor, ...]:
        output = compute(leaf)
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return both


def in_graph(call: Call, device: torch.device) -> Call:
    """Return the replay of a call that a CUDA graph has captured."""
    if device.type != "cuda":
        raise RuntimeError("only a GPU has CUDA graphs")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept  # whose memory belongs to the graph

    return replay


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Allow or forbid TF32 in the products of float32, in a context."""
    before = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    kept = {"benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    # PyTorch refuses to set allow_tf32 by itself once its own test tools are imported.
    with cudnn.flags(cudnn.enabled, allow_tf32=name == "tf32", **kept):
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def measure(
    job: Job, device: torch.device, clock: Callable[[Call], float], least: int = LEAST
) -> Row:
    """Time all contestants of a job in turn.

    Args:
        clock: a function that makes a call and returns the milliseconds that it took.
        least: number of rounds, however long they take.
    """
    calls: dict[str, Call] = {}
    errors: list[str] = []
    row: Row = job._asdict()
    row["lengths"] = "ragged" if row.pop("ragged") else "equal"
    for name, prepare in contestants(job, device):
        try:
            calls[name] = prepare()
            row[f"{name}_mib"] = memory(calls[name], device)
            calls[name]()
        except Exception as error:  # so that one error does not hide the rest
            calls.pop(name, None)
            errors.append(f"{name}: {type(error).__name__}: {error}"[:200])
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = 0.0
    while calls and len(min(times.values())) < MOST:
        for name, call in calls.items():
            times[name].append(clock(call))
            spent += times[name][-1]
        enough = len(next(iter(times.values()))) >= least
        if enough and spent > SECONDS * 1000:
            break
    for name, values in times.items():
        row[f"{name}_ms"] = f"{median(values):.4g}"
    ours = [float(row[name]) for name in ("triton_ms", "graph_ms") if name in row]
    if ours and "cudnn_ms" in row and job.beside != "compiled":  # else a shape counts twice
        row["ratio"] = f"{min(ours) / float(row['cudnn_ms']):.3f}"
    row["repeats"] = max(map(len, times.values()), default=0)
    row["errors"] = "; ".join(errors)
    return {name: row[name] for name in COLUMNS if name in row}


def memory(call: Call, device: torch.device) -> str:
    """Return the MiB that a call needs beside what was there before."""
    if device.type != "cuda":
        call()
        return ""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return f"{(torch.cuda.max_memory_allocated(device) - before) / 2**20:.1f}"


def by_events(call: Call) -> float:
    """Return the milliseconds of a call between two events of the GPU."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds


def summary(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the geometric means of the time divided by cuDNN's."""
    groups: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        if row.get("ratio"):
            size = "H <= 256" if int(row["H"]) <= 256 else "H > 256"
            names = [str(row[name]) for name in ("cell", "norm", "mode", "precision", "lengths")]
            groups[(*names, size)].append(float(row["ratio"]))
    return [
        f"{' '.join(name)}: time / cuDNN without a norm, geometric mean "
        f"{geometric_mean(ratios):.2f}, worst {max(ratios):.2f}, of {len(ratios)}"
        for name, ratios in groups.items()
        if all(map(math.isfinite, ratios))
    ]
