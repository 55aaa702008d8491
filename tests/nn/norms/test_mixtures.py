"""BatchInstanceNorm2d and SwitchableNorm2d compared with plain loops and with simpler norms."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import oracle_images
import pytest
import torch
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_transforms

import seqnorm
from seqnorm import BatchInstanceNorm2d, BatchNorm2d, SwitchableNorm2d, size_mask

N, C, H, W = 4, 3, 3, 4
EPS = 1e-3
# A whole image, a part, a single position, nothing.
SIZES = ((3, 4), (2, 3), (1, 1), (0, 2))
NAMES = ("BatchInstanceNorm2d", "SwitchableNorm2d")
names = pytest.mark.parametrize("name", NAMES)
MASKS = ("none", "sizes", "holes")
# torch.compile makes an instance of every torch.autograd.Function, of which torch itself warns.
of_dynamo = pytest.mark.filterwarnings(
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"
)


def build(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    norm = getattr(seqnorm, name)(C, EPS, dtype=dtype, **options)
    for key, parameter in norm.named_parameters():
        parameter.data.uniform_(0.1, 0.9) if key == "rho" else parameter.data.normal_()
    return norm


def draw(*shape: int) -> Tensor:
    """Return images that differ in mean and contrast, so that no two sets agree."""
    x = 1.0 + 2.0 * torch.randn(*(shape or (N, C, H, W)))
    contrast = torch.rand(*x.shape[:2], 1, 1) + 0.5
    return (x * contrast + torch.randn(*x.shape[:2], 1, 1)).double()


def mask_of(which: str) -> Tensor | None:
    if which == "holes":
        return torch.rand(N, 1, H, W) < 0.6
    return size_mask(SIZES, (H, W)) if which == "sizes" else None


def by_loops(norm: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    whole = torch.ones(N, H, W, dtype=torch.bool) if mask is None else mask[:, 0]
    batch = oracle_images.of_batch(x, whole)
    if not norm.training and norm.running_mean is not None:
        mean, var = norm.running_mean, norm.running_var

        def batch(c: int) -> tuple[Any, Any]:
            return mean[c], var[c]

    weight, bias = norm.weight, norm.bias
    args: tuple[Any, ...] = (
        lambda n, c: 1.0 if weight is None else weight[c],
        lambda n, c: 0.0 if bias is None else bias[c],
        batch,
    )
    if isinstance(norm, BatchInstanceNorm2d):
        return oracle_images.batch_instance(x, whole, EPS, lambda c: norm.rho[c], *args)
    return oracle_images.switchable(x, whole, EPS, norm.mean_weight, norm.var_weight, *args)


def agree(norm: Any, x: Tensor, mask: Tensor | None) -> None:
    x = x.clone().requires_grad_()
    expected, y = by_loops(norm, x, mask), norm(x, mask)
    assert_close(y, expected, VALUES)
    leaves = {"x": x, **dict(norm.named_parameters())}
    cotangent = torch.randn_like(x)
    got = torch.autograd.grad(y, list(leaves.values()), cotangent)
    right = torch.autograd.grad(expected, list(leaves.values()), cotangent)
    for key, actual, wanted in zip(leaves, got, right):
        assert_close(actual, wanted, GRADIENTS, f"gradient of {key}")
        assert bool(wanted.any()), f"{key} has a gradient"


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", MASKS)
@names
def test_by_loops(name: str, which: str, training: bool, options: dict[str, Any]) -> None:
    norm = build(name, **options)
    if norm.running_mean is not None:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 3.0)
    agree(norm.train(training), draw(), mask_of(which))


@names
def test_without_a_bias(name: str) -> None:
    try:
        norm = build(name, bias=False)
    except TypeError:
        with pytest.raises(TypeError, match="bias"):
            nn.BatchNorm2d(C, bias=False)  # this torch has no such argument
        return
    assert norm.bias is None
    agree(norm, draw(), mask_of("sizes"))


@pytest.mark.parametrize("momentum", [0.3, None])
@names
def test_running_statistics_are_batchnorms(name: str, momentum: float | None) -> None:
    """Those of ``BatchNorm2d`` are compared with plain loops."""
    norm, other = build(name, momentum=momentum), BatchNorm2d(C, EPS, momentum).double()
    nothing = torch.zeros(N, 1, H, W, dtype=torch.bool)
    for mask in (mask_of("sizes"), None, mask_of("holes"), nothing):
        x = draw()
        norm(x, mask)
        other(x, mask)
    norm(draw()[:0])
    norm.eval()(draw())
    for key, value in other.named_buffers():
        assert_close(norm.get_buffer(key), value, VALUES if value.dim() else 0.0, key)
    assert norm.num_batches_tracked == 3


@pytest.mark.parametrize("masked", [False, True])
def test_the_ends_of_rho_are_batchnorm_and_instancenorm(masked: bool) -> None:
    norm, x = build("BatchInstanceNorm2d"), draw()
    mask = mask_of("sizes") if masked else None
    ends = {1.0: BatchNorm2d(C, EPS), 0.0: seqnorm.InstanceNorm2d(C, EPS, affine=True)}
    fresh = BatchInstanceNorm2d(C, EPS).double()
    assert_close(fresh(x, mask), ends[1.0].double()(x, mask), VALUES)
    for share, end in ends.items():
        end.double().load_state_dict(norm.state_dict(), strict=False)
        norm.rho.data.fill_(share)
        assert_close(norm(x, mask), end(x, mask), VALUES)
        norm.rho.data.fill_(3.0 * share - 1.0)  # beyond the end
        assert_close(norm(x, mask), end(x, mask), VALUES)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("of", [0, 1, 2])
def test_a_share_of_one_is_a_simpler_norm(of: int, masked: bool) -> None:
    norm, x = build("SwitchableNorm2d"), draw()
    mask = mask_of("sizes") if masked else None
    norm.mean_weight.data.copy_(200.0 * torch.eye(3)[of])
    norm.var_weight.data.copy_(200.0 * torch.eye(3)[of])
    kinds = (
        seqnorm.InstanceNorm2d(C, EPS, affine=True),
        seqnorm.GroupNorm(1, C, EPS),
        BatchNorm2d(C, EPS),
    )
    other = kinds[of].double()
    other.load_state_dict(norm.state_dict(), strict=False)
    assert_close(norm(x, mask), other(x, mask=mask), VALUES)


@needs_transforms
@names
def test_transforms_of_torch(name: str) -> None:
    norm, x = build(name, track_running_stats=False), draw()
    parameters = dict(norm.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y = torch.func.functional_call(norm, parameters, (x,))
        assert isinstance(y, Tensor)
        return y.square().sin().sum()

    found = torch.func.grad(loss)(parameters, x)
    right = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
    for key, wanted in zip(parameters, right):
        assert_close(found[key], wanted, GRADIENTS, key)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -1e6])
@names
def test_padding_has_no_influence(name: str, poison: float, training: bool) -> None:
    norm, mask = build(name).train(training), size_mask(SIZES, (H, W))
    clean, cotangent, found = draw(), torch.randn(N, C, H, W).double(), []
    for value in (0.0, poison):
        twin = copy.deepcopy(norm)
        x = clean.masked_fill(~mask, value).requires_grad_()
        y = twin(x, mask)
        assert not y[~mask.expand_as(y)].any()
        arriving = cotangent.masked_fill(~mask, value)
        gradients = torch.autograd.grad(y, [x, *twin.parameters()], arriving)
        assert not gradients[0][~mask.expand_as(y)].any()
        found.append([y, *gradients, *twin.buffers()])
    for actual, expected in zip(*found):
        assert bool(actual.isfinite().all())
        assert_equal(actual, expected)


@names
def test_more_padding_changes_nothing(name: str) -> None:
    norm, mask = build(name), size_mask(SIZES, (H, W))
    wider, x = copy.deepcopy(norm), draw()
    more = size_mask(SIZES, (H + 2, W + 1))
    padded = torch.full((N, C, H + 2, W + 1), torch.nan).double()
    padded[:, :, :H, :W] = x
    assert_close(wider(padded, more)[:, :, :H, :W], norm(x, mask), VALUES)
    for key, value in norm.named_buffers():
        assert_close(wider.get_buffer(key), value, VALUES if value.dim() else 0.0, key)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
@names
def test_finite_differences(name: str, training: bool, masked: bool) -> None:
    norm = build(name).train(training)
    mask = torch.rand(2, 1, 2, 3) < 0.7 if masked else None
    keys = [key for key, _ in norm.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        twin = copy.deepcopy(norm)  # a call updates statistics
        result = torch.func.functional_call(twin, dict(zip(keys, values)), (x, mask))
        assert isinstance(result, Tensor)
        return result

    leaves = [draw(2, C, 2, 3), *(value.detach().clone() for value in norm.parameters())]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parameters", [None, torch.float32])
@names
def test_half_precision_is_rounded_once(
    name: str, parameters: torch.dtype | None, dtype: torch.dtype, masked: bool
) -> None:
    norm = build(name, parameters or dtype)
    x, mask = (draw() + 20.0).to(dtype), mask_of("holes") if masked else None
    for training in (True, False):
        norm.train(training)
        exact = copy.deepcopy(norm).double()
        y, expected = norm(x, mask), exact(x.double(), mask)
        assert y.dtype == dtype
        bound = torch.finfo(dtype).eps * expected.abs().clamp(min=1.0) + 2e-4
        assert bool(((y.double() - expected).abs() <= bound).all())
        assert norm.running_mean.dtype == (parameters or dtype)
    single = copy.deepcopy(norm).float()
    expected = copy.deepcopy(single)(x.float(), mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(single(x.float(), mask), expected)


@names
def test_strides_copies_state_dicts(name: str) -> None:
    norm, x = build(name), draw()
    norm(x)
    norm.eval()
    expected = norm(x)
    assert_close(norm(x.contiguous(memory_format=torch.channels_last)), expected, SUMS)
    other = getattr(seqnorm, name)(C, EPS).double().eval()
    other.load_state_dict(norm.state_dict())
    assert_equal(other(x), expected)
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert_equal(twin(x), expected)
    x = draw()[:0].requires_grad_()
    for training in (True, False):
        y = norm.train(training)(x, torch.ones(0, 1, H, W, dtype=torch.bool))
        assert y.shape == norm(x).shape == x.shape
        y.sum().backward()
    norm.reset_parameters()
    fresh = getattr(seqnorm, name)(C, EPS).double().state_dict()
    for key, value in norm.state_dict().items():
        assert_equal(value, fresh[key], key)
    assert str(norm).startswith(f"{name}(3, eps=0.001, momentum=0.1, affine=True")


def test_their_parameters() -> None:
    running = ["running_mean", "running_var", "num_batches_tracked"]
    assert list(BatchInstanceNorm2d(C).state_dict()) == ["weight", "bias", "rho", *running]
    shares = {key: value.tolist() for key, value in SwitchableNorm2d(C).named_parameters()}
    assert shares["mean_weight"] == shares["var_weight"] == [1.0, 1.0, 1.0]
    assert BatchInstanceNorm2d(C).rho.tolist() == [1.0] * C


@of_dynamo
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@names
def test_they_compile_as_one_graph(name: str, masked: bool, dynamic: bool) -> None:
    torch.compiler.reset()
    norm, x = build(name), draw().requires_grad_()
    other = copy.deepcopy(norm)
    mask = mask_of("holes") if masked else None
    compiled = torch.compile(norm, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    y, expected = compiled(x, mask), other(x, mask)
    assert_close(y, expected, VALUES)
    cotangent = torch.randn_like(x)
    found = torch.autograd.grad(y, [x, *norm.parameters()], cotangent)
    right = torch.autograd.grad(expected, [x, *other.parameters()], cotangent)
    for actual, wanted in zip(found, right):
        assert_close(actual, wanted, GRADIENTS)
    for key, value in other.named_buffers():
        assert_close(norm.get_buffer(key), value, VALUES if value.dim() else 0.0, key)


@names
def test_other_tools_leave_them_alone(name: str) -> None:
    """torch's conversion would make another norm of them, and so would ``convert_norm``."""
    network = nn.Sequential(nn.GroupNorm(1, C), build(name), nn.BatchNorm2d(C))
    norm = network[1]
    found: Any = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    assert type(found[1]) is type(norm)
    assert type(found[2]) is nn.SyncBatchNorm
    assert type(seqnorm.convert_norm(network, to="batch", include="2")[1]) is type(norm)
    found = seqnorm.convert_sync_batchnorm(network)
    assert found[1] is norm
    assert norm.processes is not None
    seqnorm.revert_sync_batchnorm(network)
    assert norm.processes is None


@names
def test_planes_of_one_position(name: str) -> None:
    norm = build(name)
    before = copy.deepcopy(norm.state_dict())
    says = rf"{name} in training on planes of one valid position.*larger planes, or BatchNorm2d\(3"
    with pytest.raises(ValueError, match=says):
        norm(draw(N, C, 1, 1))
    single = torch.zeros(N, 1, H, W, dtype=torch.bool)
    single[..., 1, 2] = True
    with pytest.raises(ValueError, match=says):
        norm(draw(), single)
    for key, value in norm.state_dict().items():
        assert_equal(value, before[key], key)
    norm.eval()
    assert bool(norm(draw(N, C, 1, 1)).isfinite().all())
    untracked = build(name, track_running_stats=False).eval()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        untracked(draw(1, C, 1, 1))
    assert untracked(draw(1, C, 1, 2)).shape == (1, C, 1, 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("scale", "offset", "dtype"),
    [(1e30, 1e30, torch.float32), (1e3, 6e4, torch.float16), (0.0, 6e4, torch.float16)],
)
@names
def test_numbers_of_any_size(
    name: str, scale: float, offset: float, dtype: torch.dtype, masked: bool
) -> None:
    """A variance beyond the dtype is infinite, and no result is NaN."""
    norm = build(name, dtype)
    x = (scale * torch.randn(N, C, H, W).double() + offset).to(dtype).requires_grad_()
    for _ in range(2):
        y = norm(x, size_mask(SIZES, (H, W)) if masked else None)
        y.sum().backward()
    assert x.grad is not None
    for found in (y, x.grad, norm.eval()(x)):
        assert bool(found.isfinite().all())
    assert bool(norm.running_var.isinf().all()) == (scale > 1e2)


X = torch.zeros(N, C, H, W)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda kind: kind(0), ValueError, "num_features"),
        (lambda kind: kind(2.0), TypeError, "num_features"),
        (lambda kind: kind(C, eps=0.0), ValueError, "eps must be > 0"),
        (lambda kind: kind(C, momentum=1.5), ValueError, r"momentum must lie in \[0, 1\]"),
        (lambda kind: kind(C + 1)(X), ValueError, r"takes \(N, C, H, W\) with C = 4, got"),
        (lambda kind: kind(C)(X[0]), ValueError, r"got \(3, 3, 4\)"),
        (lambda kind: kind(C)(X.long()), TypeError, "floating-point"),
        (lambda kind: kind(C)(X, X), TypeError, "mask must be boolean"),
        (lambda kind: kind(C)(X, X.bool()), ValueError, r"mask must be \(4, 1, 3, 4\)"),
    ],
)
@names
def test_refusals_say_why(name: str, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(getattr(seqnorm, name))


def test_single_precision() -> None:
    for name in NAMES:
        norm, x = build(name, torch.float32), draw()
        exact = copy.deepcopy(norm).double()
        assert_close(norm(x.float()).double(), exact(x), 10 * SINGLE, name)
