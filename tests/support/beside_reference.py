"""A layer on the ``cpu`` backend beside the definition: the same call, all that comes of it.

Axes: T steps, B sequences, I = input size, H = hidden size.
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
# Float32 against a float64 result of the same numbers, relative to the largest of a tensor. The
# definition in float32 comes as near: the norm of a step magnifies the rounding of all before it.
SINGLE_VALUES = 64 * ULP
SINGLE_GRADIENTS = 256 * ULP
# Of what a norm of few rows makes of float32 this is the most that a comparison can bear.
LOST = 0.01
needs_kernels = pytest.mark.skipif(library.LIBRARY is None, reason=library.WHY_NOT)

JOINT, RMS = Norm("layer"), Norm("rms")
APART = Norm("layer", "separate")
# Sites, sets, gains and biases together as no preset has them.
SCHEMES: dict[str, dict[str, NormScheme]] = {
    "LSTM": {
        "no norm": NormScheme(bias_ih="inside"),
        "hidden alone": NormScheme(hidden=Norm("rms", "separate", gain=None), bias_ih="both"),
        "input alone": NormScheme(input=Norm("layer", 2), cell=RMS, bias_hh="outside"),
        "cell alone": NormScheme(cell=JOINT, cell_state="normalised", bias_ih=None),
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
}


def taken() -> dict[str, tuple[str, str | NormScheme | None]]:
    """Every preset and every scheme above that the kernels take, with its cell, by a name."""
    found: dict[str, tuple[str, str | NormScheme | None]] = {}
    for cell in library.STEPS:
        presets = [name for name, cells in seqnorm.PRESETS.items() if cell in cells]
        norms: dict[str, Any] = {"None": None} | {name: name for name in presets} | SCHEMES[cell]
        for name, norm in norms.items():
            if refusal(LAYERS[cell](3, 4, norm=norm)) in (None, library.WHY_NOT):
                found[f"{cell} {name}"] = cell, norm
    return found


def refusal(layer: Any, rows: Tensor | None = None, lengths: Sequence[int] = (2, 1)) -> str | None:
    """Why the kernels do not take a layer's first direction."""
    lengths = torch.tensor(lengths)
    packing = seqnorm.nn.recurrence.packing.Packing.from_lengths(lengths, torch.device("cpu"))
    if rows is None:
        rows = layer.weight_ih_l0.new_zeros(sum(packing.batch_sizes), layer.input_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "normalised layers are slow here")
        state = of_layer(layer, packing.batch)
        return seqnorm.nn.backends.cpu.claims(layer.directions()[0], rows, packing, state)


def build(cell: str, norm: Any, I: int, H: int, **options: Any) -> Any:  # noqa: E741
    """A float64 layer whose every parameter is moved from its initial value and is a float32."""
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
    """The same layer in float32, which loses nothing by it."""
    return copy.deepcopy(layer).float()


def ragged(B: int, T: int) -> list[int]:
    """One sequence of T steps, one without any if there are three, the rest drawn."""
    lengths = torch.randint(0, T + 1, (B,)).tolist()
    lengths[int(torch.randint(B, ()))] = T
    if B > 2 and min(lengths) > 0:
        lengths[lengths.index(min(lengths))] = 0
    return lengths


@dataclass
class Call:
    """Padded input, lengths and initial state of one call, cotangents of its results."""

    input: Tensor
    lengths: Sequence[int] | None
    state: tuple[Tensor, ...]
    cotangents: tuple[Tensor, ...]

    @classmethod
    def draw(cls, layer: Any, lengths: Sequence[int] | None, B: int = 4, T: int = 5) -> Call:
        if lengths is not None:
            B, T = len(lengths), max(lengths)
        directions = 2 if layer.bidirectional else 1
        parts = 2 if isinstance(layer, seqnorm.LSTM) else 1
        state = [(layer.num_layers * directions, B, layer.hidden_size)] * parts

        def tensors(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
            return tuple(torch.randn(shape).to(F64) for shape in shapes)

        return cls(
            *tensors((T, B, layer.input_size)),
            lengths,
            tensors(*state),
            tensors((T, B, directions * layer.hidden_size), *state),
        )

    def to(self, dtype: torch.dtype) -> Call:
        cast = [tuple(t.to(dtype) for t in part) for part in (self.state, self.cotangents)]
        return Call(self.input.to(dtype), self.lengths, *cast)


Outcome = dict[str, Tensor]


def outcome(layer: nn.Module, call: Call, backend: str = "cpu") -> Outcome:
    """Results, gradients of input, states and parameters, and statistics, in double by name.

    Whatever is drawn is the same every time. The layer's own statistics are left as they were.
    """
    before = copy_of(dict(layer.named_buffers()))
    input = call.input.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in call.state)
    with seqnorm.use_backend(backend), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        output, last = layer(input, as_hx(state), lengths=call.lengths)
        results = (output, *parts_of(last))
        assert {part.dtype for part in results} == {call.input.dtype}
        leaves = {"input": input, "h_0": state[0], "c_0": state[-1]}
        leaves |= dict(layer.named_parameters())
        loss = sum((value * by).sum() for value, by in zip(results, call.cotangents))
        grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found = dict(zip(("output", "h_n", "c_n"), results))
    found |= {f"gradient of {name}": grad for name, grad in zip(leaves, grads)}
    found |= copy_of(dict(layer.named_buffers()))
    with torch.no_grad():
        for name, buffer in layer.named_buffers():
            buffer.copy_(before[name])
    return {name: value.detach().to(F64) for name, value in found.items()}


def assert_same(actual: Outcome, expected: Outcome, what: str = "", dtype: Any = F64) -> None:
    """As near as the dtype allows."""
    values, gradients = (VALUES, GRADIENTS) if dtype == F64 else (SINGLE_VALUES, SINGLE_GRADIENTS)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = gradients if name.startswith("gradient") else values
        assert_close(actual[name], value, tolerance, f"{what}, {name}")


def sites_of_batch(cell: str, norm: str | NormScheme | None) -> set[str]:
    """Where norms of the batch stand in a preset or scheme."""
    scheme = seqnorm.preset(norm, cell) if isinstance(norm, str) else norm
    norms = {} if scheme is None else scheme.norms
    return {site for site, norm in norms.items() if norm.over_batch}


def rounding(layer: Any, call: Call, expected: Outcome) -> tuple[float, float]:
    """How far the definition in float32 is from a result in float64, relative to the largest of a
    tensor: at most among values, and among gradients.

    Two rows that are nearly the same have a difference of few digits, which the norm of a step
    makes the whole of what it gives: of such a norm no fixed distance holds. Nothing, so, for
    layers without one.
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
    """The kernels in float32, as near as that allows to a result in float64."""
    found, lost = outcome(single(layer), call.to(F32)), rounding(layer, call, expected)
    assert max(lost) <= LOST, f"{what}: float32 has no digits left, {lost}"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        which = name.startswith("gradient")
        tolerance = (SINGLE_VALUES, SINGLE_GRADIENTS)[which] + 4 * lost[which]
        assert_close(found[name], value, tolerance, f"float32, {what}, {name}")


def assert_equals_reference(layer: Any, call: Call, what: str = "") -> None:
    """The kernels in both precisions against the definition in float64."""
    expected = outcome(layer, call, "reference")
    assert_same(outcome(layer, call), expected, what)
    assert_single(layer, call, expected, what)


def each_variant(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With every instruction set that this machine has."""
    for name in library.VARIANTS:
        monkeypatch.setattr(library, "CHOSEN", name)
        yield name
