"""Norms of images without a mask equal torch's: results, gradients, buffers, state dicts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, SINGLE, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from zipped import zipped

import seqnorm

N, C = 3, 6
SPATIAL = {0: (), 1: (5,), 2: (3, 4), 3: (2, 3, 2)}


class ChannelsLast(nn.LayerNorm):
    """torch's LayerNorm over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


Pair = tuple[Callable[..., nn.Module], Callable[..., nn.Module], tuple[int, ...]]
PAIRS: dict[str, Pair] = {
    "instance 1d": (seqnorm.InstanceNorm1d, nn.InstanceNorm1d, SPATIAL[1]),
    "instance 2d": (seqnorm.InstanceNorm2d, nn.InstanceNorm2d, SPATIAL[2]),
    "instance 3d": (seqnorm.InstanceNorm3d, nn.InstanceNorm3d, SPATIAL[3]),
    "batch 0d": (seqnorm.BatchNorm1d, nn.BatchNorm1d, SPATIAL[0]),
    "batch 1d": (seqnorm.BatchNorm1d, nn.BatchNorm1d, SPATIAL[1]),
    "batch 2d": (seqnorm.BatchNorm2d, nn.BatchNorm2d, SPATIAL[2]),
    "batch 3d": (seqnorm.BatchNorm3d, nn.BatchNorm3d, SPATIAL[3]),
    "layer 2d": (seqnorm.LayerNorm2d, ChannelsLast, SPATIAL[2]),
    **{
        f"group {d}d": (
            lambda C, **kw: seqnorm.GroupNorm(2, C, **kw),
            lambda C, **kw: nn.GroupNorm(2, C, **kw),
            SPATIAL[d],
        )
        for d in SPATIAL
    },
}
AFFINE = {"instance": {"affine": True}}
BATCH = [name for name in PAIRS if name.startswith("batch")]
INSTANCE = [name for name in PAIRS if name.startswith("instance")]


def build(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    """Return ours and torch's with the same random gain and bias, loaded from a state dict."""
    ours, theirs, _ = PAIRS[name]
    options = AFFINE.get(name.split()[0], {}) | options
    a, b = ours(C, dtype=dtype, **options), theirs(C, dtype=dtype, **options)
    for parameter in b.parameters():
        parameter.data.normal_()
    a.load_state_dict(b.state_dict())
    return a, b


def draw(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    x = 1.0 + 2.0 * torch.randn(N, C, *PAIRS[name][2], dtype=torch.float64)
    return x.to(dtype)


def agree(a: nn.Module, b: nn.Module, x: Tensor, values: float, gradients: float) -> None:
    """Compare one call: result, all gradients, and the state dict afterwards."""
    mine, other = (x.detach().clone().requires_grad_() for _ in range(2))
    y, expected = a(mine), b(other)
    assert_close(y, expected, values, "result")
    cotangent = torch.randn_like(expected)
    got = torch.autograd.grad(y, [mine, *a.parameters()], cotangent)
    wanted = torch.autograd.grad(expected, [other, *b.parameters()], cotangent)
    for j, (actual, right) in enumerate(zipped(got, wanted)):
        assert_close(actual, right, gradients, f"gradient {j}")
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, right in b.state_dict().items():
        assert_close(a.state_dict()[key], right, values, key)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_it_is_torchs_norm(name: str, dtype: torch.dtype) -> None:
    a, b = build(name, dtype)
    exact = dtype == torch.float64
    tolerances = (VALUES, GRADIENTS) if exact else (SINGLE, 10 * SINGLE)
    for training in (True, True, True, False, True):
        a.train(training)
        b.train(training)
        agree(a, b, draw(name, dtype), *tolerances)


@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"track_running_stats": False},
        {"momentum": None},
        {"momentum": 0.0},
        {"momentum": 1.0},
        {"eps": 0.1, "momentum": 0.3},
        {"affine": False, "track_running_stats": False},
    ],
)
@pytest.mark.parametrize("definition", [False, True])
@pytest.mark.parametrize("name", BATCH)
def test_options_of_batchnorm(name: str, definition: bool, options: dict[str, Any]) -> None:
    a, b = build(name, **options)
    if definition:
        a.forward = a.definition
    for training in (True, True, True, False, True):
        a.train(training)
        b.train(training)
        agree(a, b, draw(name), VALUES, GRADIENTS)
    a.reset_running_stats()
    b.reset_running_stats()
    agree(a, b, draw(name), VALUES, GRADIENTS)


@pytest.mark.parametrize("definition", [False, True])
def test_tracking_can_be_switched_off_later(definition: bool) -> None:
    a, b = build("batch 2d")
    if definition:
        a.forward = a.definition
    agree(a, b, draw("batch 2d"), VALUES, GRADIENTS)
    for module in (a, b):
        module.track_running_stats = False
    for training in (True, False):
        a.train(training)
        b.train(training)
        agree(a, b, draw("batch 2d"), VALUES, GRADIENTS)


@pytest.mark.parametrize("name", [n for n in PAIRS if n.split()[0] != "batch"])
def test_no_affine(name: str) -> None:
    options = {"elementwise_affine" if name == "layer 2d" else "affine": False}
    a, b = build(name, eps=0.1, **options)
    assert not list(a.parameters())
    agree(a, b, draw(name), VALUES, GRADIENTS)


@pytest.mark.parametrize("name", PAIRS)
def test_no_bias(name: str) -> None:
    try:
        a, b = build(name, bias=False)
    except TypeError:
        with pytest.raises(TypeError, match="bias"):
            PAIRS[name][1](C, bias=False)  # this torch has no such argument
        return
    assert [key for key, _ in a.named_parameters()] == ["weight"]
    agree(a, b, draw(name), VALUES, GRADIENTS)
    mask = torch.ones(N, *PAIRS[name][2], dtype=torch.bool)
    x = draw(name)
    assert_close(a(x, mask=mask), a(x), VALUES)


@pytest.mark.parametrize("name", INSTANCE)
def test_instancenorm_without_a_batch(name: str) -> None:
    a, b = build(name)
    x = draw(name)[0]
    assert_close(a(x), b(x), VALUES)
    mask = torch.rand(PAIRS[name][2]) < 0.7
    expected = a(x[None], mask[None])[0]
    assert_equal(a(x, mask), expected)
    assert_equal(a(x, mask[None]), expected)


# The sets of LayerNorm2d are single positions, so it has only one path.
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "layer 2d"])
def test_the_fused_path_computes_the_definition(name: str) -> None:
    """With a mask that is True everywhere, the definition computes the same."""
    a, _ = build(name)
    b = copy.deepcopy(a)
    whole = torch.ones(N, *PAIRS[name][2], dtype=torch.bool)
    b.forward = lambda x, forward=b.forward: forward(x, mask=whole)
    for training in (True, True, False):
        a.train(training)
        b.train(training)
        agree(b, a, draw(name), VALUES, GRADIENTS)


@pytest.mark.parametrize("name", PAIRS)
def test_a_state_dict_and_pickles_come_back(name: str) -> None:
    a, b = build(name)
    a(draw(name))
    b.load_state_dict(a.state_dict())
    x = draw(name)
    expected = a.eval()(x)
    assert_close(b.eval()(x), expected, VALUES)
    assert_equal(copy.deepcopy(a)(x), expected)
    assert_equal(pickle.loads(pickle.dumps(a))(x), expected)


@pytest.mark.parametrize("name", BATCH)
def test_a_checkpoint_older_than_the_number_of_batches_loads(name: str) -> None:
    a, _ = build(name)
    state = {key: value for key, value in a.state_dict().items() if key != "num_batches_tracked"}
    a.load_state_dict(state)


def test_tools_that_look_for_torchs_classes_find_ours() -> None:
    for kind in ("InstanceNorm", "BatchNorm"):
        for d in (1, 2, 3):
            assert issubclass(getattr(seqnorm, f"{kind}{d}d"), getattr(nn, f"{kind}{d}d"))
    assert issubclass(seqnorm.LayerNorm2d, nn.LayerNorm)
    norm = seqnorm.BatchNorm2d(C, dtype=torch.float64)
    batches = [torch.randn(4, C, 3, 4).double() for _ in range(3)]
    torch.optim.swa_utils.update_bn(batches, norm)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    assert norm.running_mean is not None
    assert_close(norm.running_mean, means.mean(0), VALUES)


@pytest.mark.parametrize("name", PAIRS)
def test_an_empty_batch(name: str) -> None:
    a, _ = build(name)
    before = copy.deepcopy(a.state_dict())
    x = draw(name)[:0].requires_grad_()
    mask = torch.ones(0, *PAIRS[name][2], dtype=torch.bool)
    for y in (a(x), a(x, mask=mask), a.eval()(x), a(x, mask=mask)):
        assert y.shape == x.shape
        y.sum().backward()
    for key, value in before.items():
        assert_equal(a.state_dict()[key], value, key)


@pytest.mark.parametrize("name", [name for name in PAIRS if name.endswith("2d")])
@pytest.mark.parametrize("masked", [False, True])
def test_any_strides(name: str, masked: bool) -> None:
    a, _ = build(name)
    a.eval()
    x = draw(name)
    mask = torch.rand(N, 1, *SPATIAL[2]) < 0.7 if masked else None
    expected = a(x, mask=mask)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_close(a(last, mask=mask), expected, VALUES)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert_close(a(turned, mask=mask), expected, VALUES)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parameters", [None, torch.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_half_precision_is_rounded_once(
    name: str, parameters: torch.dtype | None, dtype: torch.dtype, masked: bool
) -> None:
    """Far from zero, a mean in half precision would be wrong by much of a deviation."""
    a, _ = build(name, parameters or dtype)
    x = (draw(name) + 20.0).to(dtype)
    mask = torch.rand(N, 1, *PAIRS[name][2]) < 0.8 if masked else None
    exact = copy.deepcopy(a).double()
    y, expected = a(x, mask=mask), exact(x.double(), mask=mask)
    assert y.dtype == dtype
    bound = torch.finfo(dtype).eps * expected.abs().clamp(min=1.0) + 1e-4
    assert bool(((y.double() - expected).abs() <= bound).all())
    for key, value in a.named_buffers():
        if key != "num_batches_tracked":
            assert value.dtype == (parameters or dtype)
            expected = exact.get_buffer(key).to(value.dtype)
            bound = 1e-3 if parameters else 2 * torch.finfo(dtype).eps
            torch.testing.assert_close(value, expected, rtol=bound, atol=bound)
    a.eval()
    exact = copy.deepcopy(a).double()
    difference = a(x, mask=mask).double() - exact(x.double(), mask=mask)
    scale = exact(x.double(), mask=mask).abs().clamp(min=1.0)
    assert bool((difference.abs() <= torch.finfo(dtype).eps * scale + 1e-4).all())


@pytest.mark.parametrize("name", [name for name in PAIRS if name.endswith("2d")])
def test_autocast_keeps_the_dtype_and_the_statistics(name: str) -> None:
    a, _ = build(name, torch.float32)
    x = (draw(name) + 20.0).to(torch.bfloat16)
    expected = copy.deepcopy(a)(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = a(x)
    assert_equal(y, expected)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["batch 2d", "instance 2d", "layer 2d", "group 2d"])
def test_it_compiles_as_one_graph(name: str, masked: bool, dynamic: bool) -> None:
    torch.compiler.reset()
    a, b = build(name)[0], build(name)[0]
    b.load_state_dict(a.state_dict())
    mask = torch.rand(N, 1, *SPATIAL[2]) < 0.7 if masked else None
    x = draw(name)
    compiled = torch.compile(a, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    assert_close(compiled(x, mask=mask), b(x, mask=mask), VALUES)
    for key, value in b.state_dict().items():
        assert_close(a.state_dict()[key], value, VALUES, key)


def test_how_they_print() -> None:
    assert str(seqnorm.LayerNorm2d(6)).startswith("LayerNorm2d((6,), eps=1e-05, elementwise_affine")
    assert str(seqnorm.BatchNorm2d(6)).startswith("BatchNorm2d(6, eps=1e-05, momentum=0.1, affine=")
    assert str(seqnorm.InstanceNorm1d(6)).startswith("InstanceNorm1d(6, eps=1e-05, momentum=0.1, a")
    expected = str(nn.GroupNorm(2, 6))
    assert str(seqnorm.GroupNorm(2, 6)) == expected
    assert str(seqnorm.GroupNorm(2, 6, layout="NTC")) == f"{expected[:-1]}, layout='NTC')"
