"""Class-conditional BatchNorm compared with plain loops and with BatchNorm."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import oracle_images
import pytest
import torch
from tolerances import GRADIENTS, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import BatchNorm2d, ConditionalBatchNorm2d, size_mask

N, C, H, W, K = 4, 3, 3, 4, 5
EPS = 1e-3
SIZES = ((3, 4), (2, 3), (1, 1), (0, 2))
LABELS = torch.tensor([4, 0, 4, 2])


def build(classes: int = K, **options: Any) -> ConditionalBatchNorm2d:
    norm = ConditionalBatchNorm2d(C, classes, EPS, dtype=torch.float64, **options)
    for parameter in norm.parameters():
        parameter.data.normal_()
    return norm


def draw(*shape: int) -> Tensor:
    return (1.0 + 2.0 * torch.randn(*(shape or (N, C, H, W)))).double()


@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", ["numbers", "weights"])
def test_by_loops(form: str, masked: bool, training: bool, tracks: bool) -> None:
    norm = build(track_running_stats=tracks).train(training)
    mask = size_mask(SIZES, (H, W)) if masked else None
    whole = torch.ones(N, H, W, dtype=torch.bool) if mask is None else mask[:, 0]
    mix = torch.randn(N, K).double().requires_grad_()  # the weights have an arbitrary sum
    x, weight, bias = draw().requires_grad_(), norm.weight, norm.bias
    batch = oracle_images.of_batch(x, whole)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 3.0)
        if not training:
            means, variances = norm.running_mean.clone(), norm.running_var.clone()

            def batch(c: int) -> tuple[Any, Any]:
                return means[c], variances[c]

    def chosen(of: Tensor, n: int, c: int) -> Tensor:
        if form == "numbers":
            return of[int(LABELS[n]), c]
        return torch.stack([mix[n, k] * of[k, c] for k in range(K)]).sum()

    out = []
    for n, c, *p in oracle_images.indices(x):
        mean, var = batch(c)
        value = chosen(weight, n, c) * (x[(n, c, *p)] - mean) / torch.sqrt(var + EPS)
        out.append(value + chosen(bias, n, c) if whole[(n, *p)] else x.new_zeros(()))
    expected = torch.stack(out).reshape(x.shape)
    y = norm(x, LABELS if form == "numbers" else mix, mask)
    assert_close(y, expected, VALUES)
    leaves = {"x": x, "weight": weight, "bias": bias}
    if form == "weights":
        leaves["weights of the classes"] = mix
    cotangent = torch.randn_like(x)
    got = torch.autograd.grad(y, list(leaves.values()), cotangent)
    right = torch.autograd.grad(expected, list(leaves.values()), cotangent)
    for name, actual, wanted in zip(leaves, got, right):
        assert_close(actual, wanted, GRADIENTS, f"gradient of {name}")


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_are_batchnorms(momentum: float | None) -> None:
    """Those of ``BatchNorm2d`` are compared with plain loops; the classes do not matter."""
    norm, other = build(momentum=momentum), BatchNorm2d(C, EPS, momentum).double()
    nothing = torch.zeros(N, 1, H, W, dtype=torch.bool)
    for mask in (size_mask(SIZES, (H, W)), None, torch.rand(N, 1, H, W) < 0.6, nothing):
        x = draw()
        norm(x, torch.randint(K, (N,)), mask)
        other(x, mask)
    norm(draw()[:0], LABELS[:0])
    norm.eval()(draw(), LABELS)
    for key, value in other.named_buffers():
        assert_close(norm.get_buffer(key), value, VALUES if value.dim() else 0.0, key)


def test_one_class_is_batchnorm() -> None:
    norm, plain = build(1), BatchNorm2d(C, EPS).double()
    state = norm.state_dict()
    plain.load_state_dict(
        {key: value[0] if value.dim() == 2 else value for key, value in state.items()}
    )
    x, label = draw(), torch.zeros(N, dtype=torch.int64)
    for training in (True, False):
        norm.train(training)
        plain.train(training)
        for mask in (None, size_mask(SIZES, (H, W))):
            assert_close(norm(x, label, mask), plain(x, mask), VALUES)
    shapes = {
        key: tuple(value.shape) for key, value in ConditionalBatchNorm2d(C, K).state_dict().items()
    }
    running = {"running_mean": (C,), "running_var": (C,), "num_batches_tracked": ()}
    assert shapes == {"weight": (K, C), "bias": (K, C), **running}
    fresh, x = ConditionalBatchNorm2d(C, K), draw().float()
    assert_close(fresh(x, LABELS), BatchNorm2d(C)(x), 1e-6)


def test_one_hot_weights_are_numbers() -> None:
    norm, x = build(), draw()
    hot = torch.nn.functional.one_hot(LABELS, K)
    assert_equal(norm(x, hot.double()), norm(x, LABELS))
    for dtype in (torch.int32, torch.uint8):
        assert_equal(norm(x, LABELS.to(dtype)), norm(x, LABELS))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -1e6])
def test_padding_has_no_influence(poison: float, training: bool) -> None:
    norm, mask = build().train(training), size_mask(SIZES, (H, W))
    clean, cotangent, found = draw(), torch.randn(N, C, H, W).double(), []
    for value in (0.0, poison):
        twin = copy.deepcopy(norm)
        x = clean.masked_fill(~mask, value).requires_grad_()
        y = twin(x, LABELS, mask)
        assert not y[~mask.expand_as(y)].any()
        arriving = cotangent.masked_fill(~mask, value)
        gradients = torch.autograd.grad(y, [x, *twin.parameters()], arriving)
        assert not gradients[0][~mask.expand_as(y)].any()
        found.append([y, *gradients, *twin.buffers()])
    for actual, expected in zip(*found):
        assert bool(actual.isfinite().all())
        assert_equal(actual, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_finite_differences(training: bool, masked: bool) -> None:
    norm = build().train(training)
    mask = torch.rand(2, 1, 2, 3) < 0.7 if masked else None

    def call(x: Tensor, mix: Tensor, *values: Tensor) -> Tensor:
        twin = copy.deepcopy(norm)  # a call updates statistics
        parameters = dict(zip(("weight", "bias"), values))
        result = torch.func.functional_call(twin, parameters, (x, mix, mask))
        assert isinstance(result, Tensor)
        return result

    values = [value.detach().clone() for value in norm.parameters()]
    leaves = [draw(2, C, 2, 3), torch.rand(2, K).double(), *values]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype, masked: bool) -> None:
    norm, x = build().to(dtype), (draw() + 20.0).to(dtype)
    mask = torch.rand(N, 1, H, W) < 0.8 if masked else None
    for training in (True, False):
        norm.train(training)
        exact = copy.deepcopy(norm).double()
        for label in (LABELS, torch.rand(N, K).to(dtype)):
            wide = label.double() if label.is_floating_point() else label
            y, expected = copy.deepcopy(norm)(x, label, mask), exact(x.double(), wide, mask)
            assert y.dtype == dtype
            bound = torch.finfo(dtype).eps * expected.abs().clamp(min=1.0) + 2e-4
            assert bool(((y.double() - expected).abs() <= bound).all())
            exact = copy.deepcopy(norm).double()


def test_strides_empty_batches_copies() -> None:
    norm, x = build(), draw()
    norm(x, LABELS)
    norm.eval()
    expected = norm(x, LABELS)
    assert_close(norm(x.contiguous(memory_format=torch.channels_last), LABELS), expected, SUMS)
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert_equal(twin(x, LABELS), expected)
    assert norm.train()(x[:0], LABELS[:0]).shape == (0, C, H, W)
    norm.reset_parameters()
    fresh = ConditionalBatchNorm2d(C, K).double().state_dict()
    for key, value in norm.state_dict().items():
        assert_equal(value, fresh[key], key)
    assert str(norm) == (
        "ConditionalBatchNorm2d(3, num_classes=5, eps=0.001, momentum=0.1, "
        "track_running_stats=True)"
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_as_one_graph(dynamic: bool) -> None:
    torch.compiler.reset()
    norm, x, mask = build(), draw(), torch.rand(N, 1, H, W) < 0.8
    other = copy.deepcopy(norm)
    compiled = torch.compile(norm, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for label in (LABELS, torch.rand(N, K).double()):
        assert_close(compiled(x, label, mask), other(x, label, mask), VALUES)
    for key, value in other.named_buffers():
        assert_close(norm.get_buffer(key), value, VALUES if value.dim() else 0.0, key)


def test_other_tools_leave_it_alone() -> None:
    """torch's conversion would make a norm of it that takes no label."""
    network = nn.ModuleList([build()])
    found: Any = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert type(found[0]) is ConditionalBatchNorm2d
    assert seqnorm.convert_sync_batchnorm(network)[0].processes is not None  # type: ignore[index]  # a ModuleList


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_the_label_is_no_mask_to_re_estimation(estimate: str) -> None:
    norm, plain = build(), BatchNorm2d(C).double()
    batches = [(draw(n, C, H, W), torch.rand(n, 1, H, W) < 0.7) for n in (3, 4, 2)]
    seqnorm.reestimate_statistics(plain, batches, lambda m, b: m(b[0], b[1]), estimate=estimate)
    for forward in (
        lambda m, b: m(b[0], LABELS[: len(b[0])], b[1]),
        lambda m, b: m(b[0], label=LABELS[: len(b[0])], mask=b[1]),
    ):
        norm.reset_running_stats()
        seqnorm.reestimate_statistics(norm, batches, forward, estimate=estimate)
        for key, value in plain.named_buffers():
            assert_close(norm.get_buffer(key), value, VALUES if value.dim() else 0.0, key)


X = torch.randn(N, C, H, W)


def of(label: Any) -> Tensor:
    return ConditionalBatchNorm2d(C, K)(X, label)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConditionalBatchNorm2d(C, 0), ValueError, "num_classes"),
        (lambda: ConditionalBatchNorm2d(-1, K), ValueError, "num_features"),
        (lambda: ConditionalBatchNorm2d(C, K, eps=0.0), ValueError, "eps"),
        (lambda: ConditionalBatchNorm2d(C, K, momentum=2.0), ValueError, "momentum"),
        (lambda: ConditionalBatchNorm2d(C + 1, K)(X, LABELS), ValueError, "C = 4"),
        (lambda: of(torch.tensor([0, 1, 5, 2])), IndexError, r"classes are .* 0 to 4, got \[0, 1"),
        (lambda: of(torch.tensor([0, 1, -1, 2])), IndexError, "numbered 0 to 4"),
        (lambda: of(torch.arange(3)), ValueError, r"label for 4 images must be \(4,\) whole"),
        (lambda: of(torch.zeros(N, K + 1)), ValueError, r"got \(4, 6\)"),
        (lambda: of(torch.zeros(N, dtype=torch.bool)), TypeError, r"got torch\.bool"),
        (lambda: of(1), TypeError, r"label must be a Tensor of whole numbers \(a class per image"),
        (
            lambda: ConditionalBatchNorm2d(C, K)(X[:1, :, :1, :1], LABELS[:1]),
            ValueError,
            "Expected more than 1 value per channel",
        ),
        (
            lambda: ConditionalBatchNorm2d(C, K)(X, LABELS, torch.zeros(N, 1, H, W)),
            TypeError,
            "mask must be boolean",
        ),
    ],
)
def test_refusals_say_why(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
