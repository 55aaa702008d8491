"""Norms of images under a mask compared with plain loops and the unpadded computation."""

from __future__ import annotations

import copy
import re
from typing import Any

import oracle_images
import pytest
import torch
import torch.nn.functional as F
from oracle_images import Key
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import size_mask

N, C, H, W = 4, 4, 3, 4
EPS = 1e-3
# A whole image, a part, a single position, nothing.
SIZES = ((3, 4), (2, 3), (1, 1), (0, 2))
KEYS: dict[str, Key] = {
    "instance": lambda n, c, p: (n, c),
    "batch": lambda n, c, p: c,
    "group": lambda n, c, p: (n, c // 2),
    "layer": lambda n, c, p: (n, p),
}
BUILD: dict[str, Any] = {
    "instance": lambda **kw: seqnorm.InstanceNorm2d(C, EPS, affine=True, **kw),
    "batch": lambda **kw: seqnorm.BatchNorm2d(C, EPS, **kw),
    "group": lambda **kw: seqnorm.GroupNorm(2, C, EPS, **kw),
    "layer": lambda **kw: seqnorm.LayerNorm2d(C, EPS, **kw),
}
MASKS = ("none", "sizes", "holes")


def build(name: str) -> Any:
    norm = BUILD[name](dtype=torch.float64)
    for parameter in norm.parameters():
        parameter.data.normal_()
    return norm


def draw(*shape: int) -> Tensor:
    return (1.0 + 2.0 * torch.randn(*(shape or (N, C, H, W)))).double()


def mask_of(which: str) -> Tensor | None:
    if which == "holes":
        return torch.rand(N, 1, H, W) < 0.6
    return size_mask(SIZES, (H, W)) if which == "sizes" else None


def whole(mask: Tensor | None) -> Tensor:
    """Return a mask (N, H, W)."""
    return torch.ones(N, H, W, dtype=torch.bool) if mask is None else mask[:, 0]


@pytest.mark.parametrize("which", MASKS)
@pytest.mark.parametrize("name", BUILD)
def test_by_loops(name: str, which: str) -> None:
    norm, mask = build(name), mask_of(which)
    x = draw().requires_grad_()
    y = norm(x, mask=mask)
    weight, bias = norm.weight, norm.bias
    expected = oracle_images.normalised(
        x, whole(mask), KEYS[name], EPS, lambda n, c: weight[c], lambda n, c: bias[c]
    )
    assert_close(y, expected, VALUES)
    leaves, cotangent = [x, weight, bias], torch.randn_like(x)
    got = torch.autograd.grad(y, leaves, cotangent)
    for what, actual, right in zip(
        ("x", "weight", "bias"), got, torch.autograd.grad(expected, leaves, cotangent)
    ):
        assert_close(actual, right, GRADIENTS, f"gradient of {what}")


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_by_loops(momentum: float | None) -> None:
    norm = seqnorm.BatchNorm2d(C, EPS, momentum, dtype=torch.float64)
    mean, var = [0.0] * C, [1.0] * C
    for k in range(1, 4):
        x, mask = draw(), mask_of("holes" if k % 2 else "sizes")
        norm(x, mask)
        share = 1 / k if momentum is None else momentum
        for c, (m, v, n) in oracle_images.statistics(x, whole(mask), KEYS["batch"]).items():
            assert isinstance(c, int)
            mean[c] = (1 - share) * mean[c] + share * m.item()
            var[c] = (1 - share) * var[c] + share * v.item() * n / (n - 1)
    assert_close(norm.running_mean, torch.tensor(mean, dtype=torch.float64), VALUES)
    assert_close(norm.running_var, torch.tensor(var, dtype=torch.float64), VALUES)
    assert norm.num_batches_tracked == 3
    norm.eval()
    x, mask = draw(), mask_of("sizes")
    shape = (1, C, 1, 1)
    root = (norm.running_var + EPS).sqrt().reshape(shape)
    expected = (x - norm.running_mean.reshape(shape)) / root
    assert_close(norm(x, mask), torch.where(mask, expected, 0.0), VALUES)
    # One valid position is enough here, and the statistics stay.
    before = copy.deepcopy(norm.state_dict())
    norm(x[2:], mask[2:])
    for key, value in before.items():
        assert_equal(norm.state_dict()[key], value, key)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_of_padding_alone_leaves_the_running_statistics(momentum: float | None) -> None:
    norm, other = (seqnorm.BatchNorm2d(C, EPS, momentum, dtype=torch.float64) for _ in range(2))
    x, later = draw(), draw()
    for batch in (x, later):
        other(batch)
    nothing = torch.zeros(N, H, W, dtype=torch.bool)
    assert not norm(draw(), nothing).any()
    norm(draw()[:0])
    norm(x)
    assert not norm(draw(), nothing).any()
    norm(draw()[:, :, :0])
    norm(later)
    for key, value in other.state_dict().items():
        assert_equal(norm.state_dict()[key], value, key)


def test_one_channel_of_one_element_is_told_of_no_norm_that_refuses_it_too() -> None:
    for norm in (seqnorm.BatchNorm2d(1), seqnorm.InstanceNorm2d(1)):
        with pytest.raises(ValueError, match=r"use (a larger batch|larger planes)$"):
            norm(torch.randn(1, 1, 1, 1))


@pytest.mark.parametrize("name", BUILD)
def test_it_is_the_unpadded_computation(name: str) -> None:
    """torch's norms of every image, cut to its size, agree; BatchNorm has all valid pixels."""
    norm = build(name)
    x = draw().requires_grad_()
    y = norm(x, mask=size_mask(SIZES, (H, W)))
    weight, bias, loss, cotangent = norm.weight, norm.bias, [], torch.randn_like(x)
    cut = [x[n, :, :h, :w] for n, (h, w) in enumerate(SIZES)]
    rows = torch.cat([image.reshape(C, -1).T for image in cut])
    pooled = F.batch_norm(rows, None, None, weight, bias, True, eps=EPS)
    for n, (h, w) in enumerate(SIZES):
        image = cut[n][None]
        if name == "batch":
            own, pooled = pooled[: h * w], pooled[h * w :]
            expected = own.T.reshape(1, C, h, w)
        elif name == "layer":
            expected = F.layer_norm(image.movedim(1, -1), (C,), weight, bias, EPS).movedim(-1, 1)
        elif name == "group":
            expected = F.group_norm(image, 2, weight, bias, EPS) if h else image
        elif h * w > 1:
            expected = F.instance_norm(image, None, None, weight, bias, True, 0.0, EPS)
        else:  # torch refuses a set of one element, whose normalised value is 0
            expected = 0.0 * image + bias[:, None, None]
        assert_close(y[n, :, :h, :w], expected[0], VALUES, f"image {n}")
        loss.append((expected[0] * cotangent[n, :, :h, :w]).sum())
    leaves = [x, weight, bias]
    for got, right in zip(
        torch.autograd.grad(y, leaves, cotangent), torch.autograd.grad(sum(loss), leaves)
    ):
        assert_close(got, right, GRADIENTS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -1e6])
@pytest.mark.parametrize("name", BUILD)
def test_padding_has_no_influence(name: str, poison: float, training: bool) -> None:
    norm, mask = build(name).train(training), mask_of("sizes")
    clean, cotangent = draw(), torch.randn(N, C, H, W).double()
    found = []
    for value in (0.0, poison):
        twin = copy.deepcopy(norm)
        x = clean.masked_fill(~mask, value).requires_grad_()
        y = twin(x, mask=mask)
        assert not y[~mask.expand_as(y)].any()
        # A gradient that arrives there has no influence either.
        arriving = cotangent.masked_fill(~mask, value)
        gradients = torch.autograd.grad(y, [x, *twin.parameters()], arriving)
        assert not gradients[0][~mask.expand_as(y)].any()
        found.append([y, *gradients, *twin.buffers()])
    for actual, expected in zip(*found):
        assert bool(actual.isfinite().all())
        assert_equal(actual, expected)


@pytest.mark.parametrize("name", BUILD)
def test_forms_of_the_mask(name: str) -> None:
    norm, x = build(name).eval(), draw()
    mask = torch.rand(1, 1, 1, W) < 0.6
    expected = norm(x, mask=mask.expand(N, 1, H, W).contiguous())
    for form in (mask, mask[0], mask[:, 0], mask.expand(N, 1, 1, W), mask[0].expand(N, H, W)):
        assert_equal(norm(x, mask=form), expected)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (seqnorm.BatchNorm1d(C), (5, C)),
        (seqnorm.BatchNorm1d(C), (2, C, 5)),
        (seqnorm.BatchNorm3d(C), (2, C, 2, 3, 2)),
        (seqnorm.InstanceNorm1d(C), (2, C, 5)),
        (seqnorm.InstanceNorm3d(C), (2, C, 2, 3, 2)),
        (seqnorm.GroupNorm(2, C), (5, C)),
        (seqnorm.GroupNorm(2, C), (2, C, 5)),
        (seqnorm.GroupNorm(2, C), (2, C, 2, 3, 2)),
    ],
)
def test_signals_and_volumes(norm: Any, shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    mask = torch.rand(shape[0], *shape[2:]) < 0.7
    key = KEYS[next(name for name in KEYS if name in type(norm).__name__.lower())]
    expected = oracle_images.normalised(x, mask, key, 1e-5, lambda n, c: 1.0, lambda n, c: 0.0)
    assert_close(norm.double()(x, mask=mask), expected, VALUES)


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
def test_a_mask_of_sequences_is_that_of_their_lengths(layout: str) -> None:
    norm = seqnorm.GroupNorm(2, C, layout=layout, dtype=torch.float64)
    x = draw(3, 5, C)
    x = x if layout == "NTC" else x.transpose(1, 2)
    mask = size_mask([5, 2, 0], (5,))
    expected = norm(x, [5, 2, 0])
    assert_close(norm(x, mask=mask[:, 0]), expected, SUMS)
    whole = mask if layout == "NCT" else mask.transpose(1, 2)
    assert_close(norm(x, mask=whole), expected, SUMS)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BUILD)
def test_finite_differences(name: str, training: bool, masked: bool) -> None:
    norm = build(name).train(training)
    mask = torch.rand(2, 1, 2, 3) < 0.7 if masked else None
    names = [key for key, _ in norm.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        twin = copy.deepcopy(norm)  # a call of BatchNorm updates statistics
        result = torch.func.functional_call(twin, dict(zip(names, values)), (x,), {"mask": mask})
        assert isinstance(result, Tensor)
        return result

    leaves = [draw(2, C, 2, 3), *(value.detach().clone() for value in norm.parameters())]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


ONE_ELEMENT: dict[str, Any] = {
    "instance": (seqnorm.InstanceNorm2d(C, affine=True), (2, C, 1, 1)),
    "instance 1d": (seqnorm.InstanceNorm1d(C, affine=True), (2, C, 1)),
    "batch": (seqnorm.BatchNorm2d(C), (1, C, 1, 1)),
    "batch 0d": (seqnorm.BatchNorm1d(C), (1, C)),
    "group": (seqnorm.GroupNorm(C, C), (2, C, 1, 1)),
}


@pytest.mark.parametrize("name", ONE_ELEMENT)
def test_sets_of_one_element_are_refused_in_training(name: str) -> None:
    norm, shape = copy.deepcopy(ONE_ELEMENT[name][0]), ONE_ELEMENT[name][1]
    nn.init.normal_(norm.bias)
    x = torch.randn(shape)
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(ValueError, match="always 0; use ") as refusal:
        norm(x)
    named = re.findall(r"(\w+Norm\w*)\((1, )?4(, layout=\"NCT\")?\)", str(refusal.value))
    assert named or "fewer groups" in str(refusal.value)
    for other, groups, layout in named:  # the class in the message accepts this x
        options = {"layout": "NCT"} if layout else {}
        getattr(seqnorm, other)(*([1, C] if groups else [C]), **options)(x)
    larger = x.expand(*shape[:2], *[3] * (len(shape) - 2)) if len(shape) > 2 else x.expand(3, C)
    mask = torch.zeros(larger.shape[0], *larger.shape[2:], dtype=torch.bool)
    for n in range(1 if "batch" in name else len(mask)):
        mask[n].view(-1)[n] = True
    with pytest.raises(ValueError, match="one valid position"):
        norm(larger, mask=mask)
    for key, value in norm.state_dict().items():
        assert_equal(value, before[key], key)
    # One larger set suffices, and inference needs none.
    norm(larger, mask=torch.ones_like(mask))
    if "batch" not in name:
        some = mask.clone()
        some[0] = True
        rest = norm(larger, mask=some)[1:]
        assert_close(rest.sum((0, *range(2, rest.dim()))), norm.bias, SINGLE)
        norm.eval()
        bias = norm.bias.reshape(1, C, *[1] * (len(shape) - 2))
        assert_equal(norm(x), bias.expand(shape).contiguous())
    norm.eval()
    assert bool(norm(x).isfinite().all())


def test_batchnorm_without_running_statistics_refuses_one_value_in_inference_as_torch_does() -> (
    None
):
    norm = seqnorm.BatchNorm2d(C, track_running_stats=False).eval()
    for module in (norm, nn.BatchNorm2d(C, track_running_stats=False).eval()):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            module(torch.randn(1, C, 1, 1))
    assert norm(torch.randn(1, C, 1, 2)).shape == (1, C, 1, 2)


X = torch.zeros(N, C, H, W)
MASK = torch.ones(N, 1, H, W, dtype=torch.bool)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: seqnorm.InstanceNorm2d(C, track_running_stats=True), ValueError, "BatchNorm, who"),
        (lambda: seqnorm.InstanceNorm2d(0), ValueError, "num_features"),
        (lambda: seqnorm.InstanceNorm2d(C, eps=0.0), ValueError, "eps"),
        (lambda: seqnorm.BatchNorm2d(C, eps=0.0), ValueError, "eps"),
        (lambda: seqnorm.BatchNorm2d(2.0), TypeError, "num_features"),
        (
            lambda: seqnorm.BatchNorm2d(C, momentum=1.5),
            ValueError,
            r"momentum must lie in \[0, 1\]",
        ),
        (lambda: seqnorm.BatchNorm2d(C, momentum="a"), TypeError, "momentum"),
        (lambda: seqnorm.LayerNorm2d(1), ValueError, "one element"),
        (lambda: seqnorm.LayerNorm2d(0), ValueError, "num_channels"),
        (lambda: seqnorm.LayerNorm2d(C, eps=-1.0), ValueError, "eps"),
        (lambda: seqnorm.InstanceNorm2d(C + 1)(X), ValueError, r"\(N, C, H, W\) with C = 5, got"),
        (lambda: seqnorm.InstanceNorm1d(C)(X), ValueError, r"\(N, C, L\) with C = 4, got"),
        (lambda: seqnorm.InstanceNorm3d(C)(X[0, 0]), ValueError, r"\(N, C, D, H, W\)"),
        (lambda: seqnorm.BatchNorm1d(C)(X), ValueError, r"\(N, C\) or \(N, C, L\) with C = 4"),
        (lambda: seqnorm.BatchNorm2d(C)(X[0]), ValueError, r"got \(4, 3, 4\)"),
        (lambda: seqnorm.LayerNorm2d(H)(X), ValueError, "C = 3"),
        (lambda: seqnorm.LayerNorm2d(C)(X.long()), TypeError, r"floating-point .* torch\.int64"),
        (lambda: seqnorm.GroupNorm(2, C)(X.long()), TypeError, r"floating-point .* torch\.int64"),
        (lambda: seqnorm.GroupNorm(2, C + 2)(X), ValueError, r"\(N, C, \*\) with C = 6"),
        (lambda: seqnorm.GroupNorm(2, C)(X[0, 0, 0]), ValueError, r"got \(4,\)"),
        (
            lambda: seqnorm.GroupNorm(2, C, layout="NTC")(X[:, :, 0, :3], mask=MASK[:, 0, 0]),
            ValueError,
            r'layout="NTC" takes \(N, T, C\) with C = 4',
        ),
        (lambda: seqnorm.GroupNorm(2, C, layout="NTC")(X), ValueError, r"got \(4, 4, 3, 4\)"),
        (lambda: seqnorm.GroupNorm(2, C)(X, [3] * N), ValueError, "images take a mask"),
        (
            lambda: seqnorm.GroupNorm(2, C)(X[..., 0], [1] * N, MASK[:, 0, 0]),
            ValueError,
            "got both",
        ),
        (lambda: seqnorm.GroupNorm(2, C)(X, mask=MASK[:2]), ValueError, r"got \(2, 1, 3, 4\)"),
        (lambda: seqnorm.BatchNorm2d(C)(X, MASK.float()), TypeError, "boolean"),
        (lambda: seqnorm.InstanceNorm2d(C)(X, MASK[:, :, 1:]), ValueError, r"got \(4, 1, 2, 4\)"),
        (lambda: seqnorm.LayerNorm2d(C)(X, MASK.expand_as(X)), ValueError, r"got \(4, 4, 3, 4\)"),
    ],
)
def test_refusals_say_why(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
