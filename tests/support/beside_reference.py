"""Comparison of a layer on the ``cpu`` backend with the definition: one call and its results.

Axes: T steps, B sequences, I = input size, H = hidden size, P = size of h (H, or proj_size).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from comparing import copy_of
from hidden_states import as_hx, of_layer, parts_of
from tolerances import GRADIENTS, VALUES, assert_close
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm, NormScheme
from seqnorm.nn.backends.cpu import library
from seqnorm.nn.layers.cells import LAYERS

F32, F64 = torch.float32, torch.float64
ULP = 2.0**-23
# Tolerance of float32 against a float64 result, relative to the largest value of a tensor. The
# definition in float32 is no closer: the norm of a step magnifies the rounding of all steps before.
SINGLE_VALUES = 64 * ULP
SINGLE_GRADIENTS = 256 * ULP
# The largest rounding error, by norms of few rows, with which a comparison still makes sense.
LOST = 0.01
needs_kernels = pytest.mark.skipif(library.LIBRARY is None, reason=library.WHY_NOT)

JOINT, RMS = Norm("layer"), Norm("rms")
APART = Norm("layer", "separate")
# Combinations of sites, sets, gains and biases that no preset has.
SCHEMES: dict[str, dict[str, NormScheme]] = {
    "LSTM": {
        "no norm": NormScheme(bias_ih="inside"),
        "hidden alone": NormScheme(hidden=Norm("rms", "separate", gain=None), bias_ih="both"),
        "input alone": NormScheme(input=Norm("layer", 2), cell=RMS, bias_hh="outside"),
        "cell alone": NormScheme(cell=JOINT, cell_state="normalised", bias_ih=None),
        "deviation": NormScheme(
            input=JOINT, hidden=JOINT, cell=Norm("rms", eps=0.1, eps_on="std"), bias_hh="outside"
        ),
        "sum without gain": NormScheme(
            sum=Norm("rms", gain=None, bias=None), bias_ih="inside", bias_hh=None
        ),
        "sum of spelled sets": NormScheme(
            sum=Norm("layer", ("i", "fgo"), bias=None),
            cell=Norm("rms", gain=None, bias=0.0),
            cell_state="normalised",
            bias_ih="inside",
        ),
        "batch before": NormScheme(
            input=Norm("batch"), hidden=APART, cell=JOINT, cell_state="normalised"
        ),
        "batch before no other": NormScheme(
            input=Norm("batch_pooled", gain=None, bias=None), bias_ih="both"
        ),
        "batch sum": NormScheme(
            sum=Norm("batch", gain=None, bias=None, eps=1e-3),
            cell=Norm("batch", min_count=3, eps=0.1),
            cell_state="normalised",
            bias_ih="inside",
        ),
        "batch cell": NormScheme(cell=Norm("batch", max_steps=3), bias_ih="both"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, eps=1e-3),
            hidden=Norm("batch", min_count=3, bias=None),
            cell=Norm("batch", gain=None, max_steps=4, momentum=None),
            cell_state="normalised",
            bias_ih="inside",
            bias_hh="outside",
        ),
        "outside": NormScheme(
            frame=Norm("layer", eps=0.1), output=RMS, input=RMS, hidden=Norm("layer", eps=0.01)
        ),
    },
    "GRU": {
        "no norm": NormScheme(bias_ih="inside", bias_hh="outside", update="write"),
        "kinds": NormScheme(
            input=APART,
            hidden=Norm("rms", "separate", eps=0.1),
            bias_ih="both",
            bias_hh="outside",
            update="write",
        ),
        "hidden alone": NormScheme(hidden=Norm("layer", ("r", "zn"), gain=None)),
        "input alone": NormScheme(input=RMS, bias_ih="inside", bias_hh="outside"),
        "equal sets": NormScheme(
            input=Norm("rms", 3, gain=None, bias=None), hidden=Norm("layer", 3, bias=None)
        ),
        "sum": NormScheme(sum=RMS, bias_ih="inside", update="write"),
        "sum without gain": NormScheme(sum=Norm("layer", gain=None, bias=None), bias_ih=None),
        "candidate": NormScheme(
            sum=Norm("rms", ("rz", "n"), gain=None, eps=0.1), bias_ih="inside", update="write"
        ),
        "candidate without bias": NormScheme(
            sum=Norm("layer", "separate", bias=None), bias_ih=None, bias_hh="inside"
        ),
        "batch before": NormScheme(
            input=Norm("batch_pooled"), hidden=JOINT, bias_ih="both", bias_hh="outside"
        ),
        "batch hidden": NormScheme(hidden=Norm("batch", eps=1e-3), bias_ih="both", update="write"),
        "batch sum": NormScheme(sum=Norm("batch", max_steps=3), bias_ih="inside", bias_hh="inside"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, gain=None, bias=None, eps=0.1),
            hidden=Norm("batch", min_count=3, momentum=None),
            bias_ih="inside",
            bias_hh="outside",
        ),
        "outside": NormScheme(frame=Norm("batch"), output=JOINT, hidden=Norm("rms", ("rz", "n"))),
    },
    "LiGRU": {
        "no norm": NormScheme(bias_ih="inside", bias_hh="outside"),
        "kinds": NormScheme(
            input=APART, hidden=Norm("rms", ("a", "z"), eps=0.1), bias_ih="both", bias_hh="outside"
        ),
        "hidden alone": NormScheme(hidden=Norm("layer", gain=None), bias_hh="outside"),
        "input alone": NormScheme(input=Norm("rms", 2), bias_ih="both"),
        "sum": NormScheme(sum=APART, bias_ih="inside", bias_hh="inside"),
        "sum without gain": NormScheme(sum=Norm("rms", gain=None, bias=None), bias_ih=None),
        "batch before": NormScheme(
            input=Norm("batch"), hidden=Norm("layer", bias=None), bias_ih="inside"
        ),
        "batch hidden": NormScheme(hidden=Norm("batch", eps=1e-3), bias_ih="both"),
        "batch sum": NormScheme(sum=Norm("batch", max_steps=3), bias_ih="inside"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, gain=None, bias=None, eps=0.1),
            hidden=Norm("batch", min_count=3, momentum=None),
            bias_ih="inside",
            bias_hh="outside",
        ),
        "outside": NormScheme(frame=Norm("batch"), output=JOINT, hidden=APART),
    },
    "RNN": {
        "no norm": NormScheme(bias_ih="both"),
        "kinds": NormScheme(input=JOINT, hidden=Norm("rms", eps=0.1), bias_hh="outside"),
        "hidden alone": NormScheme(hidden=Norm("layer", bias=None), bias_ih="both"),
        "input alone": NormScheme(input=RMS, bias_ih="inside", bias_hh="outside"),
        "sum without gain": NormScheme(
            sum=Norm("layer", gain=None, bias=None), bias_ih="inside", bias_hh="inside"
        ),
        "batch before": NormScheme(input=Norm("batch_pooled"), hidden=RMS, bias_ih="both"),
        "batch hidden": NormScheme(hidden=Norm("batch", eps=1e-3), bias_hh="outside"),
        "batch sum": NormScheme(sum=Norm("batch", max_steps=3), bias_ih="inside"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, eps=0.1),
            hidden=Norm("batch", min_count=3, gain=None, momentum=None),
            bias_ih="inside",
        ),
        "outside": NormScheme(frame=Norm("layer", eps=0.1), output=RMS, sum=RMS, bias_ih=None),
    },
    "IndRNN": {
        "no norm": NormScheme(bias_ih="both", bias_hh="outside"),
        "kinds": NormScheme(input=JOINT, hidden=Norm("rms", eps=0.1), bias_ih="both"),
        "hidden alone": NormScheme(hidden=Norm("layer", bias=None), bias_hh="outside"),
        "sum": NormScheme(sum=JOINT, bias_ih="inside"),
        "sum without gain": NormScheme(
            sum=Norm("rms", gain=None, bias=None), bias_ih="inside", bias_hh="inside"
        ),
        "batch before": NormScheme(input=Norm("batch"), hidden=RMS, bias_ih="inside"),
        "batch hidden": NormScheme(hidden=Norm("batch", eps=1e-3)),
        "batch sum": NormScheme(sum=Norm("batch", max_steps=3), bias_ih="inside"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, gain=None, eps=0.1),
            hidden=Norm("batch", min_count=3, bias=None, momentum=None),
            bias_ih="both",
            bias_hh="outside",
        ),
        "outside": NormScheme(frame=Norm("batch"), output=JOINT, input=RMS),
    },
    "SLSTM": {
        "no norm": NormScheme(bias_ih="both", bias_hh="outside"),
        "kinds": NormScheme(input=APART, hidden=Norm("rms", "separate", eps=0.1), bias_ih="both"),
        "hidden alone": NormScheme(hidden=Norm("layer", ("i", "fz", "o"), bias=None)),
        "input alone": NormScheme(input=RMS, bias_ih="inside", bias_hh="outside"),
        "sum": NormScheme(sum=APART, bias_ih="inside", bias_hh="inside"),
        "sum without gain": NormScheme(sum=Norm("rms", gain=None, bias=None), bias_ih=None),
        "batch before": NormScheme(input=Norm("batch_pooled"), hidden=RMS, bias_ih="both"),
        "batch hidden": NormScheme(hidden=Norm("batch", eps=1e-3)),
        "batch sum": NormScheme(sum=Norm("batch", max_steps=3), bias_ih="inside"),
        "batch ends": NormScheme(
            input=Norm("batch", max_steps=2, gain=None, bias=None, eps=0.1),
            hidden=Norm("batch", min_count=3, momentum=None, eps=0.1),
            bias_ih="inside",
            bias_hh="outside",
        ),
        "outside": NormScheme(frame=Norm("batch"), output=Norm("rms", "heads"), hidden=JOINT),
    },
}


# The cells with a choice of the nonlinearity.
NONLINEAR = ("LiGRU", "RNN", "IndRNN")


def taken() -> dict[str, tuple[str, str | NormScheme | None]]:
    """Return every preset and scheme above that the kernels take, with its cell, by name."""
    found: dict[str, tuple[str, str | NormScheme | None]] = {}
    for cell in library.STEPS:
        presets = [name for name, cells in seqnorm.PRESETS.items() if cell in cells]
        norms: dict[str, Any] = {"None": None} | {name: name for name in presets} | SCHEMES[cell]
        for name, norm in norms.items():
            if refusal(LAYERS[cell](3, 8, norm=norm)) in (None, library.WHY_NOT):
                found[f"{cell} {name}"] = cell, norm
    return found


def refusal(layer: Any, rows: Tensor | None = None, lengths: Sequence[int] = (2, 1)) -> str | None:
    """Return why the kernels do not take the first direction of a layer."""
    lengths = torch.tensor(lengths)
    packing = seqnorm.nn.recurrence.packing.Packing.from_lengths(lengths, torch.device("cpu"))
    if rows is None:
        rows = layer.weight_ih_l0.new_zeros(sum(packing.batch_sizes), layer.input_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "normalised layers are slow here")
        state = of_layer(layer, packing.batch)
        return seqnorm.nn.backends.cpu.claims(layer.directions()[0], rows, packing, state)


def build(cell: str, norm: Any, I: int, H: int, **options: Any) -> Any:  # noqa: E741
    """Return a float64 layer with float32 values, each parameter moved from its initial value.

    A layer with heads has as many as divide H, at most four, of two units at least.
    """
    if cell == "SLSTM":
        heads = next((k for k in (4, 3, 2) if H % k == 0 and k < H), 1)
        options = {"num_heads": heads, **options}
    layer = LAYERS[cell](I, H, norm=norm, dtype=F64, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("norm") and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif "bias" in name:
                parameter.normal_(0.0, 0.3)
            parameter.copy_(parameter.float())
    return layer


def single(layer: Any) -> Any:
    """Return the same layer in float32, without any loss."""
    return copy.deepcopy(layer).float()


def ragged(B: int, T: int) -> list[int]:
    """Return lengths: one T, one 0 if there are at least three, the rest random."""
    lengths = torch.randint(0, T + 1, (B,)).tolist()
    lengths[int(torch.randint(B, ()))] = T
    if B > 2 and min(lengths) > 0:
        lengths[lengths.index(min(lengths))] = 0
    return lengths


@dataclass
class Call:
    """Padded input, lengths, initial state and cotangents of one call."""

    input: Tensor
    lengths: Sequence[int] | None
    state: tuple[Tensor, ...]
    cotangents: tuple[Tensor, ...]

    @classmethod
    def draw(cls, layer: Any, lengths: Sequence[int] | None, B: int = 4, T: int = 5) -> Call:
        if lengths is not None:
            B, T = len(lengths), max(lengths)
        directions = 2 if layer.bidirectional else 1
        letters = layer.step.states
        width = getattr(layer, "proj_size", 0) or layer.hidden_size
        sizes = (width, *[layer.hidden_size] * (len(letters) - 1))
        shapes = [(layer.num_layers * directions, B, size) for size in sizes]

        def tensors(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
            return tuple(torch.randn(shape).to(F64) for shape in shapes)

        (input,), state = tensors((T, B, layer.input_size)), tensors(*shapes)
        # n of an sLSTM, a sum of exponentials, is positive.
        state = tuple(p.abs() + 0.5 if k == "n" else p for k, p in zip(letters, state))
        cotangents = tensors((T, B, directions * width), *shapes)
        return cls(input, lengths, state, cotangents)

    def to(self, dtype: torch.dtype) -> Call:
        cast = [tuple(t.to(dtype) for t in part) for part in (self.state, self.cotangents)]
        return Call(self.input.to(dtype), self.lengths, *cast)


Outcome = dict[str, Tensor]


def outcome(layer: nn.Module, call: Call, backend: str = "cpu") -> Outcome:
    """Return results, gradients and statistics, in double by name.

    Random masks are the same in every call. The statistics of the layer stay unchanged.
    """
    before = copy_of(dict(layer.named_buffers()))
    input = call.input.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in call.state)
    with seqnorm.use_backend(backend), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        output, last = layer(input, as_hx(state), lengths=call.lengths)
        results = (output, *parts_of(last))
        assert {part.dtype for part in results} == {call.input.dtype}
        letters = layer.step.states
        leaves = {"input": input, **{f"{k}_0": part for k, part in zip(letters, state)}}
        leaves |= dict(layer.named_parameters())
        loss = sum((value * by).sum() for value, by in zip(results, call.cotangents))
        grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found = dict(zip(("output", *[f"{k}_n" for k in letters]), results))
    found |= {f"gradient of {name}": grad for name, grad in zip(leaves, grads)}
    found |= copy_of(dict(layer.named_buffers()))
    with torch.no_grad():
        for name, buffer in layer.named_buffers():
            buffer.copy_(before[name])
    return {name: value.detach().to(F64) for name, value in found.items()}


def assert_same(actual: Outcome, expected: Outcome, what: str = "", dtype: Any = F64) -> None:
    """Compare within the tolerance of the dtype."""
    values, gradients = (VALUES, GRADIENTS) if dtype == F64 else (SINGLE_VALUES, SINGLE_GRADIENTS)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = gradients if name.startswith("gradient") else values
        assert_close(actual[name], value, tolerance, f"{what}, {name}")


def sites_of_batch(cell: str, norm: str | NormScheme | None) -> set[str]:
    """Return the sites of norms of the batch in a preset or scheme."""
    scheme = seqnorm.preset(norm, cell) if isinstance(norm, str) else norm
    norms = {} if scheme is None else scheme.norms
    return {site for site, norm in norms.items() if norm.over_batch}


def rounding(layer: Any, call: Call, expected: Outcome) -> tuple[float, float]:
    """Return the largest relative distances of the definition in float32 from a float64 result.

    There is one for values and one for gradients, relative to the largest value of a tensor. If two
    rows are nearly equal, their difference has few digits, and the norm of a step amplifies it to
    the scale of its output, so no fixed distance holds for such a norm. Layers without a norm have
    the distance 0.
    """
    if not sites_of_batch("", layer.norm) & {"input", "hidden", "sum", "cell"}:
        return 0.0, 0.0
    found = outcome(single(layer), call.to(F32), "reference")
    lost = [0.0, 0.0]
    for name, value in expected.items():
        if value.numel():
            share = (found[name] - value).abs().max() / value.abs().max().clamp(min=1.0)
            which = name.startswith("gradient")
            lost[which] = max(lost[which], float(share))
    return lost[0], lost[1]


def assert_single(layer: Any, call: Call, expected: Outcome, what: str = "") -> None:
    """Compare the kernels in float32 with float64; another order of rounding is 6 times as far."""
    found, lost = outcome(single(layer), call.to(F32)), rounding(layer, call, expected)
    assert max(lost) <= LOST, f"{what}: float32 has no digits left, {lost}"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        which = name.startswith("gradient")
        tolerance = (SINGLE_VALUES, SINGLE_GRADIENTS)[which] + 12 * lost[which]
        assert_close(found[name], value, tolerance, f"float32, {what}, {name}")


def assert_equals_reference(layer: Any, call: Call, what: str = "") -> None:
    """Compare the kernels in both precisions with the definition in float64."""
    expected = outcome(layer, call, "reference")
    assert_same(outcome(layer, call), expected, what)
    assert_single(layer, call, expected, what)


def each_variant(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield each instruction set of this machine, and use it."""
    for name in library.VARIANTS:
        monkeypatch.setattr(library, "CHOSEN", name)
        yield name


def leaves_of(layer: Any, call: Call) -> dict[str, Tensor]:
    """Return input, initial state and parameters of a call, which are to have gradients."""
    leaves = {"input": call.input.clone().requires_grad_()}
    leaves |= {f"state {j}": part.clone().requires_grad_() for j, part in enumerate(call.state)}
    return leaves | dict(layer.named_parameters())


def results_of(
    layer: Any, leaves: dict[str, Tensor], lengths: Sequence[int], backend: str = "cpu"
) -> tuple[Tensor, ...]:
    """Return the results of a call in training, without its updates of the tables."""
    before = [buffer.clone() for buffer in layer.buffers()]
    state = tuple(value for name, value in leaves.items() if name.startswith("state"))
    with seqnorm.use_backend(backend):
        output, last = layer(leaves["input"], as_hx(state), lengths=lengths)
    with torch.no_grad():
        for buffer, value in zip(layer.buffers(), before):
            buffer.copy_(value)
    return output, *parts_of(last)
