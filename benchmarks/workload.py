"""The timed jobs: cells, norms and shapes, and for each the calls of ours and of the baselines.

Axes: T steps, B sequences, H units and inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import baselines
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqnorm

Call = Callable[[], object]
LAYERS = {"lstm": (seqnorm.LSTM, nn.LSTM), "gru": (seqnorm.GRU, nn.GRU)}
# Other cells beside the layer of torch that is used in their place.
OTHERS = {
    "ligru": (seqnorm.LiGRU, nn.GRU),
    "rnn": (seqnorm.RNN, nn.RNN),
    "indrnn": (seqnorm.IndRNN, nn.RNN),
    "slstm": (seqnorm.SLSTM, nn.LSTM),
}
CELLS = {**LAYERS, **OTHERS}
NORMS = ("none", "layer", "rms", "batch", "batch_pooled")
MODES = ("train", "infer")
BASELINES = ("torch", "scripted", "eager", "reference")
# Number of layers, and True for two directions, by kind of shape. "cells" are shapes of the other
# cells; with "bfloat16" both sides run under autocast.
KINDS = {"grid": (1, False), "ragged": (1, False), "ragged_deep": (2, True)}
KINDS |= {"short": (1, False), "cells": (1, False), "bfloat16": (1, False)}
# The norms of kinds that do not have all of them.
FEWER_NORMS = {
    "short": ("layer", "batch"),
    "cells": ("layer", "batch_pooled"),
    "bfloat16": ("layer", "batch"),
}
# Lengths of Reuters R8 in tokens: quantiles 5, 50, 95, 99 % = 12, 66, 355, 642, at most 964, here
# cut at 400. The log-normal distribution has the same median and the deviation that fits the others
# best.
MEDIAN, DEVIATION, LONGEST = 66, 1.01, 400


@dataclass(frozen=True)
class Shape:
    """The shape of a batch and of the network; ragged lengths are drawn up to ``T``."""

    kind: str
    T: int
    B: int
    H: int


@dataclass(frozen=True)
class Job:
    """A line of the table: ours against a baseline.

    Attributes:
        baseline: "torch", "scripted", "eager", or "reference", our own time loop in Python.
    """

    cell: str
    norm: str
    mode: str
    shape: Shape
    baseline: str = "torch"


GRID = [
    Shape("grid", *sizes)
    for sizes in itertools.product((25, 128, 400), (1, 16, 64), (64, 128, 256, 512))
]
RAGGED = [
    Shape(kind, LONGEST, B, H)
    for kind, B, H in itertools.product(("ragged", "ragged_deep"), (16, 64), (128, 256))
]
FURTHER = [
    *(Shape("short", *sizes) for sizes in itertools.product((1, 4), (1, 16), (64, 128, 256, 512))),
    *(Shape("cells", *sizes) for sizes in ((25, 16, 256), (100, 1, 128), (100, 32, 128))),
    *(Shape("bfloat16", 128, *sizes) for sizes in itertools.product((1, 16, 64), (128, 512))),
]
QUICK = [
    *(Shape("grid", *sizes) for sizes in ((25, 16, 128), (128, 1, 256), (128, 16, 256))),
    Shape("short", 4, 1, 128),
    Shape("cells", 100, 1, 128),
    Shape("bfloat16", 25, 16, 128),
    Shape("ragged", LONGEST, 16, 64),
    Shape("ragged_deep", 128, 16, 64),  # shorter, to limit the time of norms of the batch
]
QUICK_NORMS = ("none", "layer", "batch")


def all_jobs(shapes: Iterable[Shape], norms: Iterable[str]) -> list[Job]:
    """Yield the jobs of all lines of the table.

    Training with "batch" on a batch of one is left out, because that norm cannot do it, and so is
    bfloat16 where torch's layers lack it.
    """
    found = []
    halves = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for cell, norm, mode, shape in itertools.product(CELLS, norms, MODES, shapes):
        if (norm, mode, shape.B) == ("batch", "train", 1):
            continue
        if shape.kind == "bfloat16" and not halves:
            continue
        if norm not in FEWER_NORMS.get(shape.kind, norms):
            continue
        if (cell in OTHERS) is not (shape.kind == "cells"):
            continue
        found.append(Job(cell, norm, mode, shape))
        if cell in OTHERS:
            found.append(Job(cell, norm, mode, shape, "reference"))
        if (cell, norm, shape.kind) == ("lstm", "layer", "grid"):
            found += [Job(cell, norm, mode, shape, name) for name in ("scripted", "eager")]
    return found


def draw_lengths(count: int, seed: int = 11) -> Tensor:
    """Draw lengths (count,) like those of R8's documents, unsorted.

    With this seed, batches of 16 and 64 reach the cut, and their means (93, 104) are close to that
    of the distribution (101), so the batches are ordinary ones.
    """
    normal = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return (MEDIAN * (DEVIATION * normal).exp()).round().clamp(1, LONGEST).to(torch.int64)


def calls(job: Job) -> dict[str, Call]:
    """Return a step of "ours", and of the baseline under the name of each way to compute it."""
    shape, training = job.shape, job.mode == "train"
    layers, both = KINDS[shape.kind]
    ragged = shape.kind.startswith("ragged")
    lengths = draw_lengths(shape.B).clamp(max=shape.T) if ragged else None
    steps = shape.T if lengths is None else int(lengths.max())
    generator = torch.Generator().manual_seed(steps)
    input = torch.randn(steps, shape.B, shape.H, generator=generator)
    grad = torch.randn(steps, shape.B, shape.H * (2 if both else 1), generator=generator)

    ours = build(job.cell, job.norm, shape.H, layers, both)
    if not training:
        fill_tables(ours, steps, shape)
    runs: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]
    runs = {"ours": (ours, lambda x: ours(x, lengths=lengths)[0])}
    if job.baseline == "torch":
        theirs = CELLS[job.cell][1](shape.H, shape.H, layers, bidirectional=both)
        padded = (theirs, lambda x: theirs(x)[0])
        if lengths is None:
            runs["torch"] = padded
        else:
            runs["torch_packed"] = theirs, partial(run_packed, theirs, lengths)
            runs["torch_padded"] = padded
    elif job.baseline == "reference":
        runs["reference"] = ours, partial(run_reference, ours)
    else:
        other = getattr(baselines, job.baseline)(ours)
        runs[job.baseline] = other, lambda x: other(x)[0]
    if shape.kind == "bfloat16":
        runs = {name: (layer, partial(run_autocast, run)) for name, (layer, run) in runs.items()}
    make = training_step if training else inference
    return {name: make(*run, input, grad) for name, run in runs.items()}


def build(cell: str, norm: str, size: int, layers: int = 1, both: bool = False) -> nn.Module:
    """Build our layer."""
    norm_or_none = None if norm == "none" else norm
    return CELLS[cell][0](size, size, layers, bidirectional=both, norm=norm_or_none)


def fill_tables(layer: nn.Module, steps: int, shape: Shape) -> None:
    """Give BatchNorm running statistics of every step for inference."""
    with torch.no_grad():
        layer.train()(torch.randn(steps, max(shape.B, 2), shape.H))


def run_packed(layer: nn.Module, lengths: Tensor, input: Tensor) -> Tensor:
    """Run torch's layer over a padded batch, through a ``PackedSequence``."""
    packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
    output, _ = pad_packed_sequence(layer(packed)[0], total_length=len(input))
    return output


def run_reference(layer: nn.Module, input: Tensor) -> Tensor:
    """Run our layer by the time loop in Python."""
    with seqnorm.use_backend("reference"):
        return layer(input)[0]


def run_autocast(run: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    """Run a layer with products in bfloat16; its output is converted back."""
    with torch.autocast("cpu", torch.bfloat16):
        output = run(input)
    return output.float()


def training_step(
    layer: nn.Module, run: Callable[[Tensor], Tensor], input: Tensor, grad: Tensor
) -> Call:
    """Run forward and backward, also to the input, as if layers below were trained."""
    layer.train()
    leaf = input.clone().requires_grad_()
    leaves = [leaf, *layer.parameters()]

    def step() -> list[Tensor | None]:
        for tensor in leaves:
            tensor.grad = None
        run(leaf).backward(grad)
        return [tensor.grad for tensor in leaves]

    return step


def inference(
    layer: nn.Module, run: Callable[[Tensor], Tensor], input: Tensor, grad: Tensor
) -> Call:
    """Run forward alone."""
    layer.eval()

    def step() -> Tensor:
        with torch.no_grad():
            return run(input)

    return step
