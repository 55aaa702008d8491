"""Conditional and adaptive InstanceNorm compared with plain loops and with simpler norms."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import oracle_images
import pytest
import torch
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

from seqnorm import (
    AdaptiveInstanceNorm2d,
    ConditionalInstanceNorm2d,
    InstanceNorm2d,
    size_mask,
)
from seqnorm.nn.norms import style_statistics

N, C, H, W, S = 4, 3, 3, 4, 5
EPS = 1e-3
SIZES = ((3, 4), (2, 3), (1, 1), (0, 2))
STYLE_SIZES = ((2, 5), (1, 3), (2, 2), (1, 1))


def draw(*shape: int) -> Tensor:
    return (1.0 + 2.0 * torch.randn(*(shape or (N, C, H, W)))).double()


def conditional(styles: int = S, **options: Any) -> ConditionalInstanceNorm2d:
    norm = ConditionalInstanceNorm2d(C, styles, EPS, dtype=torch.float64, **options)
    for parameter in norm.parameters():
        parameter.data.normal_()
    return norm


def by_loops(x: Tensor, mask: Tensor | None, gain: Any, bias: Any) -> Tensor:
    whole = torch.ones(N, H, W, dtype=torch.bool) if mask is None else mask[:, 0]
    return oracle_images.normalised(x, whole, lambda n, c, p: (n, c), EPS, gain, bias)


def agree(y: Tensor, expected: Tensor, leaves: dict[str, Tensor]) -> None:
    assert_close(y, expected, VALUES)
    cotangent = torch.randn_like(y)
    got = torch.autograd.grad(y, list(leaves.values()), cotangent)
    right = torch.autograd.grad(expected, list(leaves.values()), cotangent, retain_graph=True)
    for name, actual, wanted in zip(leaves, got, right):
        assert_close(actual, wanted, GRADIENTS, f"gradient of {name}")


@pytest.mark.parametrize("masked", [False, True])
def test_conditional_of_numbers_by_loops(masked: bool) -> None:
    norm, style = conditional(), torch.tensor([4, 0, 4, 2])
    mask = size_mask(SIZES, (H, W)) if masked else None
    x = draw().requires_grad_()
    weight, bias = norm.weight, norm.bias
    expected = by_loops(
        x, mask, lambda n, c: weight[int(style[n]), c], lambda n, c: bias[int(style[n]), c]
    )
    leaves = {"x": x, "weight": weight, "bias": bias}
    agree(norm(x, style, mask), expected, leaves)
    for dtype in (torch.int32, torch.uint8):
        assert_close(norm(x, style.to(dtype), mask), expected, VALUES)


@pytest.mark.parametrize("masked", [False, True])
def test_conditional_of_weights_by_loops(masked: bool) -> None:
    """The weights have an arbitrary sum."""
    norm, mix = conditional(), torch.randn(N, S).double().requires_grad_()
    mask = size_mask(SIZES, (H, W)) if masked else None
    x = draw().requires_grad_()
    weight, bias = norm.weight, norm.bias
    expected = by_loops(
        x,
        mask,
        lambda n, c: sum(mix[n, s] * weight[s, c] for s in range(S)),
        lambda n, c: sum(mix[n, s] * bias[s, c] for s in range(S)),
    )
    leaves = {"x": x, "weights of the styles": mix, "weight": weight, "bias": bias}
    agree(norm(x, mix, mask), expected, leaves)


def test_one_hot_weights_are_numbers() -> None:
    norm, style = conditional(), torch.tensor([4, 0, 1, 2])
    x, mask = draw(), torch.rand(N, 1, H, W) < 0.8
    hot = torch.nn.functional.one_hot(style, S)
    assert_equal(norm(x, hot.double()), norm(x, style))
    assert_equal(norm(x, hot.float(), mask), norm(x, style, mask))
    assert not norm(x, torch.zeros(N, S)).any()


def test_conditional_of_one_style_is_instancenorm() -> None:
    norm = conditional(1)
    plain = InstanceNorm2d(C, EPS, affine=True, dtype=torch.float64)
    plain.load_state_dict({key: value[0] for key, value in norm.state_dict().items()})
    x, mask, style = draw(), size_mask(SIZES, (H, W)), torch.zeros(N, dtype=torch.int64)
    assert_equal(norm(x, style), plain(x))
    assert_equal(norm(x, style, mask), plain(x, mask))
    fresh = ConditionalInstanceNorm2d(C, S)
    assert {key: tuple(value.shape) for key, value in fresh.state_dict().items()} == {
        "weight": (S, C),
        "bias": (S, C),
    }
    x = x.float()
    assert_equal(fresh(x, style + 3), InstanceNorm2d(C)(x))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_adaptive_by_loops(masked: bool, shared: bool) -> None:
    x, style = draw().requires_grad_(), draw(1 if shared else N, C, 2, 5).requires_grad_()
    mask = style_mask = None
    valid = torch.ones(len(style), 2, 5, dtype=torch.bool)
    if masked:
        mask, style_mask = size_mask(SIZES, (H, W)), size_mask(STYLE_SIZES, (2, 5))
        style_mask = style_mask[1:2] if shared else style_mask
        valid = style_mask[:, 0]
    of = oracle_images.statistics(style, valid, lambda n, c, p: (n, c))
    one = 0 if shared else 1
    expected = by_loops(
        x,
        mask,
        lambda n, c: torch.sqrt(of[n * one, c][1] + EPS),
        lambda n, c: of[n * one, c][0],
    )
    norm = AdaptiveInstanceNorm2d(EPS)
    leaves = {"x": x, "style": style}
    agree(norm(x, style, mask=mask, style_mask=style_mask), expected, leaves)
    weight, bias = style_statistics(style, style_mask, EPS)
    assert weight.shape == bias.shape == (len(style), C)
    agree(norm(x, weight=weight, bias=bias, mask=mask), expected, leaves)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("masked", [False, True])
def test_a_style_is_left_as_it_is_by_itself(dtype: torch.dtype, masked: bool) -> None:
    norm, x = AdaptiveInstanceNorm2d(), (0.01 * draw() + 3.0).to(dtype)
    mask = size_mask(SIZES, (H, W)) if masked else None
    x = x if mask is None else torch.where(mask, x, 0.0)
    if masked:
        x, mask = x[:3], mask[:3]
    y = norm(x, x, mask=mask, style_mask=mask)
    assert_close(y, x, VALUES if dtype == torch.float64 else SINGLE)


def test_mixed_statistics_mix_the_results() -> None:
    norm, x, styles = AdaptiveInstanceNorm2d(), draw(), [draw(1, C, 2, 5) for _ in range(2)]
    parts = [style_statistics(style) for style in styles]
    weight, bias = (0.3 * a + 0.7 * b for a, b in zip(*parts))
    expected = 0.3 * norm(x, styles[0]) + 0.7 * norm(x, styles[1])
    assert_close(norm(x, weight=weight, bias=bias), expected, VALUES)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -1e6])
@pytest.mark.parametrize("name", ["number", "weights", "adaptive"])
def test_padding_has_no_influence(name: str, poison: float) -> None:
    clean, features, mix = draw(), draw(N, C, 2, 5), torch.rand(N, S).double()
    mask, style_mask = size_mask(SIZES, (H, W)), size_mask(STYLE_SIZES, (2, 5))
    cotangent, found = torch.randn_like(clean), []
    norm = AdaptiveInstanceNorm2d() if name == "adaptive" else conditional()
    for value in (0.0, poison):
        x = clean.masked_fill(~mask, value).requires_grad_()
        leaves = [x, *norm.parameters()]
        if name == "adaptive":
            style = features.masked_fill(~style_mask, value).requires_grad_()
            y = norm(x, style, mask=mask, style_mask=style_mask)
            leaves.append(style)
        else:
            style = mix.clone().requires_grad_() if name == "weights" else torch.arange(N)
            y = norm(x, style, mask)
            leaves += [style] if name == "weights" else []
        assert not y[~mask.expand_as(y)].any()
        gradients = torch.autograd.grad(y, leaves, cotangent.masked_fill(~mask, value))
        if name == "adaptive":
            assert not gradients[-1][~style_mask.expand_as(style)].any()
        found.append([y, *gradients])
    for actual, expected in zip(*found):
        assert bool(actual.isfinite().all())
        assert_equal(actual, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["weights", "adaptive", "given"])
def test_finite_differences(name: str, masked: bool) -> None:
    x, mask = draw(2, C, 2, 3).requires_grad_(), torch.rand(2, 1, 2, 3) < 0.8 if masked else None
    leaves = [x]
    if name == "weights":
        norm = conditional()
        leaves += [torch.rand(2, S).double().requires_grad_(), *norm.parameters()]

        def call(x: Tensor, mix: Tensor, *values: Tensor) -> Any:
            parameters = dict(zip(("weight", "bias"), values))
            return torch.func.functional_call(norm, parameters, (x, mix, mask))
    elif name == "adaptive":
        leaves += [draw(2, C, 2, 2).requires_grad_()]

        def call(x: Tensor, style: Tensor) -> Any:
            return AdaptiveInstanceNorm2d()(x, style, mask=mask)
    else:
        leaves += [draw(2, C).requires_grad_(), draw(1, C).requires_grad_()]

        def call(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
            return AdaptiveInstanceNorm2d()(x, weight=weight, bias=bias, mask=mask)

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


def test_planes_of_one_position() -> None:
    x, mix, adaptive = torch.randn(2, C, 1, 1), torch.rand(2, S), AdaptiveInstanceNorm2d()
    norm = ConditionalInstanceNorm2d(C, S)
    torch.nn.init.normal_(norm.bias)
    with pytest.raises(ValueError, match=r"ConditionalInstanceNorm2d in training on planes of one"):
        norm(x, mix)
    with pytest.raises(ValueError, match=r"AdaptiveInstanceNorm2d in training on planes of one"):
        adaptive(x, torch.randn(2, C, 4, 4))
    with pytest.raises(ValueError, match=r"AdaptiveInstanceNorm2d in training on styles of one"):
        adaptive(torch.randn(2, C, 4, 4), x)
    larger = torch.randn(2, C, 2, 2)
    mask = size_mask([[1, 1], [1, 1]], (2, 2))
    with pytest.raises(ValueError, match="planes of one valid position"):
        norm(larger, mix, mask)
    with pytest.raises(ValueError, match="styles of one valid position"):
        adaptive(larger, larger, style_mask=mask)
    norm.eval()
    adaptive.eval()
    assert_close(norm(x, mix), (mix @ norm.bias)[:, :, None, None], SINGLE)
    assert_close(adaptive(x, larger), larger.mean((2, 3), keepdim=True), SINGLE)
    assert bool(adaptive(larger, x).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x, style = (draw() + 20.0).to(dtype), (draw(N, C, 2, 5) - 30.0).to(dtype)
    mask, mix = torch.rand(N, 1, H, W) < 0.8, torch.rand(N, S).to(dtype)
    norm = conditional().to(dtype)
    exact = copy.deepcopy(norm).double()
    adaptive = AdaptiveInstanceNorm2d()
    for m in (None, mask):
        for y, right in (
            (norm(x, mix, m), exact(x.double(), mix.double(), m)),
            (norm(x, torch.arange(N), m), exact(x.double(), torch.arange(N), m)),
            (adaptive(x, style, mask=m), adaptive(x.double(), style.double(), mask=m)),
        ):
            assert y.dtype == dtype
            bound = torch.finfo(dtype).eps * right.abs().clamp(min=1.0) + 1e-4
            assert bool(((y.double() - right).abs() <= bound).all())
    assert style_statistics(style)[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        single = copy.deepcopy(norm).float()
        hot = torch.nn.functional.one_hot(torch.arange(N), S).float()
        assert_equal(single(x, hot), single(x, torch.arange(N)))


def test_strides_empty_batches_copies() -> None:
    norm, adaptive, x, style = conditional(), AdaptiveInstanceNorm2d(), draw(), torch.arange(N)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_close(norm(last, style), norm(x, style), SUMS)
    assert_close(adaptive(last, last.flip(0)), adaptive(x, x.flip(0)), SUMS)
    assert norm(x[:0], style[:0]).shape == norm(x[:0], torch.zeros(0, S)).shape == (0, C, H, W)
    assert adaptive(x[:0], x[:0]).shape == adaptive(x[:0], x[:1]).shape == (0, C, H, W)
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert_equal(twin(x, style), norm(x, style))
    assert str(norm) == "ConditionalInstanceNorm2d(3, num_styles=5, eps=0.001)"
    assert str(adaptive) == "AdaptiveInstanceNorm2d(eps=1e-05)"


@pytest.mark.parametrize("dynamic", [False, True])
def test_they_compile_as_one_graph(dynamic: bool) -> None:
    torch.compiler.reset()
    norm, x, mask = conditional(), draw(), torch.rand(N, 1, H, W) < 0.8
    compiled = torch.compile(norm, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for style in (torch.arange(N), torch.rand(N, S).double()):
        assert_close(compiled(x, style, mask), norm(x, style, mask), VALUES)
    adaptive = AdaptiveInstanceNorm2d()
    compiled = torch.compile(adaptive, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    expected = adaptive(x, x.flip(0), mask=mask, style_mask=mask)
    assert_close(compiled(x, x.flip(0), mask=mask, style_mask=mask), expected, VALUES)


X = torch.randn(N, C, H, W)
G = torch.ones(N, C)
NOTHING = torch.zeros(N, 1, H, W, dtype=torch.bool)
ADAPTIVE = AdaptiveInstanceNorm2d()


def of(style: Tensor) -> Tensor:
    return ConditionalInstanceNorm2d(C, S)(X, style)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConditionalInstanceNorm2d(C, 0), ValueError, "num_styles"),
        (lambda: ConditionalInstanceNorm2d(-1, S), ValueError, "num_features"),
        (lambda: ConditionalInstanceNorm2d(C, S, eps=0.0), ValueError, "eps"),
        (lambda: ConditionalInstanceNorm2d(C + 1, S)(X, torch.arange(N)), ValueError, "C = 4"),
        (lambda: of(torch.tensor([0, 1, 5, 2])), IndexError, r"0 to 4, got \[0, 1, 5, 2\]"),
        (lambda: of(torch.tensor([0, 1, -1, 2])), IndexError, "numbered 0 to 4"),
        (lambda: of(torch.arange(3)), ValueError, r"\(4,\) whole numbers or \(4, 5\) .*got \(3,\)"),
        (
            lambda: of(torch.zeros(N, S, dtype=torch.int64)),
            ValueError,
            r"got \(4, 5\) torch\.int64",
        ),
        (lambda: of(torch.zeros(N)), ValueError, r"got \(4,\) torch\.float32"),
        (lambda: of(torch.zeros(N, S + 1)), ValueError, r"got \(4, 6\)"),
        (lambda: of(torch.zeros(N, dtype=torch.bool)), TypeError, r"got torch\.bool"),
        (lambda: of(1), TypeError, "must be a Tensor of whole numbers .* got 1"),
        (lambda: of([0, 1, 2, 3]), TypeError, r"must be a Tensor of whole .* got \[0, 1, 2, 3\]"),
        (lambda: AdaptiveInstanceNorm2d(0.0), ValueError, "eps"),
        (lambda: ADAPTIVE(X), ValueError, "either a style .* got neither"),
        (lambda: ADAPTIVE(X, X, weight=G, bias=G), ValueError, "got style, weight, bias"),
        (lambda: ADAPTIVE(X, X, bias=G), ValueError, "got style, bias"),
        (lambda: ADAPTIVE(X, weight=G), ValueError, "got weight"),
        (lambda: ADAPTIVE(X, bias=G), ValueError, "got bias"),
        (lambda: ADAPTIVE(X, weight=G, bias=G, style_mask=~NOTHING), ValueError, "style_mask"),
        (lambda: ADAPTIVE(X, weight=G, bias=G[:2]), ValueError, r"bias must be \(4, 3\) or \(1, 3"),
        (lambda: ADAPTIVE(X, weight=G[0], bias=G), ValueError, r"weight must be .* got \(3,\)"),
        (lambda: ADAPTIVE(X, X[:2]), ValueError, r"features of a style must have N, C \(4, 3\)"),
        (lambda: ADAPTIVE(X, X[:, :2]), ValueError, r"got \(4, 2\)"),
        (lambda: ADAPTIVE(X, X[0]), ValueError, r"must be \(N, C, H, W\), got \(3, 3, 4\)"),
        (lambda: ADAPTIVE(X[0], X), ValueError, r"takes \(N, C, H, W\), got \(3, 3, 4\)"),
        (lambda: ADAPTIVE(X.long(), X), TypeError, "floating-point"),
        (lambda: style_statistics(X, eps=0.0), ValueError, "eps must be > 0"),
        (lambda: style_statistics(X.long()), TypeError, "floating-point"),
        (lambda: style_statistics(X, NOTHING), ValueError, "no statistics"),
        (lambda: style_statistics(X, size_mask(SIZES, (H, W))), ValueError, "no statistics"),
        (lambda: style_statistics(X[:, :, :0]), ValueError, "no statistics"),
        (lambda: ADAPTIVE(X, X, style_mask=NOTHING), ValueError, "no statistics"),
        (lambda: ADAPTIVE(X, X, mask=NOTHING.float()), TypeError, "boolean"),
        (lambda: style_statistics(X, NOTHING[:, :, :2]), ValueError, "mask must be"),
    ],
)
def test_refusals_say_why(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
