"""``DynamicTanh`` and ``DynamicErf``, against one number at a time, in every layout.

Axes: N examples, C channels, then positions.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm

F64 = torch.float64
N, C = 3, 5
KINDS: dict[str, type[nn.Module]] = {"tanh": seqnorm.DynamicTanh, "erf": seqnorm.DynamicErf}
SHAPES = {"frames": (), "sequences": (4,), "images": (2, 3), "volumes": (2, 1, 2)}
LENGTHS = [4, 0, 2]
kinds = pytest.mark.parametrize("kind", KINDS)
layouts = pytest.mark.parametrize("layout", ["NTC", "NCT"])


def build(kind: str, layout: str, **options: Any) -> Any:
    norm = KINDS[kind](C, layout=layout, dtype=F64, **options)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return norm


def draw(layout: str, positions: tuple[int, ...]) -> Tensor:
    return torch.randn(N, *((*positions, C) if layout == "NTC" else (C, *positions))).double() * 2


def by_numbers(norm: Any, parameters: dict[str, Tensor], x: Tensor, seen: Tensor) -> Tensor:
    """Compute each number of x by itself; erf is a form of the normal distribution."""
    axis = -1 if norm.layout == "NTC" else 1
    numbers = []
    for place in itertools.product(*map(range, x.shape)):
        if not seen[place]:
            numbers.append(torch.zeros((), dtype=F64))
            continue
        z = parameters["alpha"][0] * x[place]
        if isinstance(norm, seqnorm.DynamicErf):
            z = z + parameters["shift"][0]
            y = 2 * torch.special.ndtr(z * 2**0.5) - 1
        else:
            y = 1 - 2 / ((2 * z).exp() + 1)
        channel = place[axis]
        if "weight" in parameters:
            y = y * parameters["weight"][channel]
        if "bias" in parameters:
            y = y + parameters["bias"][channel]
        numbers.append(y)
    return torch.stack(numbers).reshape(x.shape)


def compare(norm: Any, x: Tensor, seen: Tensor, call: dict[str, Any]) -> None:
    """Compare a call with ``by_numbers``, with NaN in the padding: outputs and all gradients."""
    cotangent = torch.randn_like(x)
    inputs = torch.where(seen, x, math.nan).requires_grad_()
    output = norm(inputs, **call)
    names = [name for name, _ in norm.named_parameters()]
    found = torch.autograd.grad(output, [inputs, *norm.parameters()], cotangent)
    leaf = x.clone().requires_grad_()
    parameters = {n: p.detach().clone().requires_grad_() for n, p in norm.named_parameters()}
    expected = by_numbers(norm, parameters, leaf, seen)
    wanted = torch.autograd.grad(expected, [leaf, *parameters.values()], cotangent)
    assert_close(output, expected, VALUES)
    assert not output[~seen].any()
    for name, actual, gradient in zip(["x", *names], found, wanted):
        assert_close(actual, gradient, GRADIENTS, name)


@kinds
@layouts
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"elementwise_affine": False}, {"alpha": -1.5}]
)
def test_it_equals_one_number_at_a_time(
    kind: str, layout: str, shape: str, options: dict[str, Any]
) -> None:
    norm, x = build(kind, layout, **options), draw(layout, SHAPES[shape])
    compare(norm, x, torch.ones_like(x, dtype=torch.bool), {})


@kinds
@layouts
def test_lengths(kind: str, layout: str) -> None:
    norm, x = build(kind, layout), draw(layout, (4,))
    steps = torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]
    axis = 2 if layout == "NTC" else 1
    compare(norm, x, steps.unsqueeze(axis).expand_as(x), {"lengths": LENGTHS})


@kinds
@layouts
def test_masks_of_images(kind: str, layout: str) -> None:
    norm, x = build(kind, layout), draw(layout, (2, 3))
    sizes = seqnorm.size_mask([(2, 3), (1, 2), (0, 0)], (2, 3))
    mask = sizes.movedim(1, -1) if layout == "NTC" else sizes
    for given in (mask, mask.squeeze(-1 if layout == "NTC" else 1)):
        compare(norm, x, mask.expand_as(x), {"mask": given})


@kinds
@layouts
def test_no_element_depends_on_another(kind: str, layout: str) -> None:
    norm, x = build(kind, layout).train(), draw(layout, (4,))
    jacobian = torch.autograd.functional.jacobian(norm, x).reshape(x.numel(), x.numel())
    assert torch.equal(jacobian, torch.diag(jacobian.diagonal()))
    assert bool((jacobian.diagonal() != 0).all())
    assert_equal(norm.eval()(x[:1]), norm.train()(x)[:1])
    assert not list(norm.buffers())


@kinds
def test_state_dicts_have_the_names_of_the_authors(kind: str) -> None:
    norm = KINDS[kind](C, layout="NTC")
    expected = {"alpha": torch.full((1,), 0.5), "weight": torch.ones(C), "bias": torch.zeros(C)}
    if kind == "erf":
        expected["shift"] = torch.zeros(1)
    assert norm.state_dict().keys() == expected.keys()
    for name, value in expected.items():
        assert_equal(norm.state_dict()[name], value, name)
    other: Any = KINDS[kind](
        C, layout="NTC", alpha=0.8, **({"shift": 0.2} if kind == "erf" else {})
    )
    assert_equal(other.state_dict()["alpha"], torch.tensor([0.8]))
    assert (f"{C}, alpha=0.8" + (", shift=0.2" if kind == "erf" else "")) in repr(other)
    other.load_state_dict(norm.state_dict())
    x = torch.randn(2, 3, C)
    assert_equal(other(x), norm(x))
    other.reset_parameters()
    assert_equal(other.state_dict()["alpha"], torch.tensor([0.8]))


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    norm = KINDS[kind](C, layout="NCT")
    x = torch.randn(2, C, 3, 3)
    half = copy.deepcopy(norm).to(dtype)
    output = half(x.to(dtype))
    assert output.dtype == dtype
    assert_close(output, norm(x.to(dtype).float()).to(dtype), 0.0)


@kinds
@layouts
def test_compiled(kind: str, layout: str) -> None:
    torch.compiler.reset()
    norm = build(kind, layout)
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    x = draw(layout, (4,))
    lengths = torch.tensor(LENGTHS)
    assert_close(compiled(x, lengths), norm(x, lengths), VALUES)


@kinds
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda cls: cls(C), TypeError, r"write Dynamic\w+\(\.\.\., layout=\"NTC\"\)"),
        (lambda cls: cls(0, layout="NTC"), ValueError, "num_channels must be greater"),
        (lambda cls: cls(C, layout="NHC"), ValueError, "layout must be one of 'NTC', 'NCT'"),
        (lambda cls: cls(C, layout="NTC", alpha=math.nan), ValueError, "alpha must be finite"),
        (lambda cls: cls(C, layout="NTC", alpha="x"), TypeError, "alpha should be a number"),
        (lambda cls: cls(C, layout="NTC", bias=1), TypeError, "bias should be of type bool"),
        (lambda cls: cls(layout="NTC", normalized_shape=C), TypeError, "write num_channels"),
        (lambda cls: cls(C, layout="NTC", eps=1e-5), TypeError, "no argument 'eps'"),
        (
            lambda cls: cls(C, layout="NTC")(torch.zeros(2, C, 3)),
            ValueError,
            r"takes \(N, \*, C\) with C = 5, got \(2, 5, 3\): .* write layout=\"NCT\"",
        ),
        (
            lambda cls: cls(C, layout="NCT")(torch.zeros(2, 3, 3, C)),
            ValueError,
            r"takes \(N, C, \*\) with C = 5, got .* write layout=\"NTC\"",
        ),
        (lambda cls: cls(C, layout="NTC")(torch.zeros(C)), ValueError, r"got \(5,\)$"),
        (
            lambda cls: cls(C, layout="NTC")(torch.ones(2, C, dtype=torch.int64)),
            TypeError,
            "floating-point numbers",
        ),
        (
            lambda cls: cls(C, layout="NTC")(torch.zeros(2, 3, 3, C), [1, 2]),
            ValueError,
            "lengths are for sequences, 3-D",
        ),
        (
            lambda cls: cls(C, layout="NTC")(torch.zeros(2, 3, C), [1, 4]),
            ValueError,
            r"lengths\[1\] is 4",
        ),
        (
            lambda cls: cls(C, layout="NTC")(
                torch.zeros(2, 3, C), [1, 3], torch.ones(2, 3, dtype=torch.bool)
            ),
            ValueError,
            "either lengths or a mask",
        ),
        (
            lambda cls: cls(C, layout="NCT")(torch.zeros(2, C, 3), mask=torch.ones(2, 3)),
            TypeError,
            "mask must be boolean",
        ),
    ],
)
def test_refusals(kind: str, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(KINDS[kind])


def test_a_shift_belongs_to_erf() -> None:
    wrong: dict[str, Any] = {"shift": 0.1}
    with pytest.raises(TypeError, match="DynamicTanh has no argument 'shift'"):
        seqnorm.DynamicTanh(C, layout="NTC", **wrong)
