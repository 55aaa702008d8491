"""PowerNorm against a loop over its equations, and by its own properties.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_versions import needs_compiler

import seqnorm
from seqnorm import PowerNorm

F64 = torch.float64
N, T, C = 3, 4, 2
Frames = list[list[list[float]]]  # of every sequence and valid step, the channels


@dataclass
class Loop:
    """The equations of PowerNorm with numbers of Python, one channel after the other."""

    eps: float
    momentum: float
    warmup: int
    weight: list[float]
    bias: list[float]
    square: list[float]
    product: list[float]
    count: int = 0

    def forward(self, x: Frames) -> Frames:
        frames = [frame for sequence in x for frame in sequence]
        self.warm = self.count < self.warmup
        squares = [math.fsum(f[c] ** 2 for f in frames) / max(len(frames), 1) for c in range(C)]
        self.psi = [
            math.sqrt((squares[c] if self.warm else self.square[c]) + self.eps) for c in range(C)
        ]
        self.hat = [[[f[c] / self.psi[c] for c in range(C)] for f in seq] for seq in x]
        if frames:
            self.count += 1
            w = max(1 / self.count, self.momentum)
            self.square = [(1 - w) * old + w * new for old, new in zip(self.square, squares)]
        return [
            [[self.weight[c] * f[c] + self.bias[c] for c in range(C)] for f in seq]
            for seq in self.hat
        ]

    def backward(self, grad: Frames) -> tuple[Frames, list[float], list[float]]:
        """Return the gradients of x, the gain and the bias, given that of y."""
        pairs = [(g, h) for grads, hats in zip(grad, self.hat) for g, h in zip(grads, hats)]
        of_weight = [math.fsum(g[c] * h[c] for g, h in pairs) for c in range(C)]
        of_bias = [math.fsum(g[c] for g, _ in pairs) for c in range(C)]
        n = max(len(pairs), 1)
        product = [self.weight[c] * of_weight[c] / n for c in range(C)]
        factor = product if self.warm else list(self.product)
        of_x = [
            [
                [(self.weight[c] * g[c] - factor[c] * h[c]) / self.psi[c] for c in range(C)]
                for g, h in zip(grads, hats)
            ]
            for grads, hats in zip(grad, self.hat)
        ]
        if pairs:
            for c in range(C):
                square = math.fsum(h[c] ** 2 for _, h in pairs) / n
                kept = 1 - self.momentum * square
                self.product[c] = kept * self.product[c] + self.momentum * product[c]
        return of_x, of_weight, of_bias


def cut(x: Tensor, lengths: Sequence[int]) -> Frames:
    return [x[n, :length].tolist() for n, length in enumerate(lengths)]


def padded(frames: Frames) -> Tensor:
    found = torch.zeros(N, T, C, dtype=F64)
    for n, sequence in enumerate(frames):
        for t, frame in enumerate(sequence):
            found[n, t] = torch.tensor(frame, dtype=F64)
    return found


def made(**options: Any) -> PowerNorm:
    norm = PowerNorm(C, **({"layout": "NTC", "dtype": F64} | options))
    for parameter in norm.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return norm


def loop_of(norm: PowerNorm) -> Loop:
    assert norm.weight is not None
    assert norm.bias is not None
    return Loop(
        norm.eps,
        norm.momentum,
        norm.warmup,
        *(part.tolist() for part in (norm.weight, norm.bias)),
        *(part.tolist() for part in (norm.running_square, norm.running_product)),
        int(norm.num_batches_tracked),
    )


LENGTHS = [(4, 2, 1), (4, 4, 4), (3, 0, 2), (0, 0, 0), (1, 0, 0), (2, 4, 3), (4, 1, 4)]


@pytest.mark.parametrize("layout", ["NTC", "NCT"])
@pytest.mark.parametrize("warmup", [0, 1, 3, 100])
@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_steps_of_training_equal_the_loop(momentum: float, warmup: int, layout: str) -> None:
    norm = made(momentum=momentum, warmup=warmup, eps=1e-3, layout=layout)
    loop = loop_of(norm)
    for number, lengths in enumerate(LENGTHS):
        x = torch.randn(N, T, C, dtype=F64) * (1 + number)
        cotangent = torch.randn(N, T, C, dtype=F64)
        given = x.clone().requires_grad_()
        y = norm(given if layout == "NTC" else given.transpose(1, 2), lengths)
        y = y if layout == "NTC" else y.transpose(1, 2)
        assert_close(y, padded(loop.forward(cut(x, lengths))), VALUES)
        assert_close(norm.running_square, torch.tensor(loop.square, dtype=F64), VALUES)
        assert int(norm.num_batches_tracked) == loop.count
        before = norm.running_product.clone()
        found = torch.autograd.grad(y, [given, norm.weight, norm.bias], cotangent)
        of_x, *others = loop.backward(cut(cotangent, lengths))
        wanted = [padded(of_x), *(torch.tensor(each, dtype=F64) for each in others)]
        for actual, expected in zip(found, wanted):
            assert_close(actual, expected, GRADIENTS)
        assert_close(norm.running_product, torch.tensor(loop.product, dtype=F64), VALUES)
        assert torch.equal(before, norm.running_product) == (sum(lengths) == 0)
    x = torch.randn(N, T, C, dtype=F64)
    y = norm.eval()(x if layout == "NTC" else x.transpose(1, 2), [4, 2, 3])
    loop.warmup, square, count = 0, list(loop.square), loop.count
    y = y if layout == "NTC" else y.transpose(1, 2)
    assert_close(y, padded(loop.forward(cut(x, [4, 2, 3]))), VALUES)
    assert_close(norm.running_square, torch.tensor(square, dtype=F64), VALUES)
    assert int(norm.num_batches_tracked) == count


def test_inference_changes_nothing_and_has_its_own_gradient() -> None:
    norm = made(warmup=1)
    norm(torch.randn(N, T, C, dtype=F64))
    before = copy.deepcopy(norm.state_dict())
    norm.eval()
    x = torch.randn(N, T, C, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    norm(x).sum().backward()
    for name, value in norm.state_dict().items():
        assert_equal(value, before[name], name)


def test_the_gradient_of_the_warmup_is_exact() -> None:
    norm = made()
    x = torch.randn(N, T, C, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x, [4, 2, 3]), (x,))
    late = made(warmup=0)
    with torch.no_grad():
        late.running_product.fill_(0.4)
    loss = late(x).square().sum()
    (actual,) = torch.autograd.grad(loss, x)
    exact = torch.autograd.functional.jacobian(lambda x: late.eval()(x).square().sum(), x)
    assert not torch.allclose(actual, exact)


def test_without_gradients_the_forward_pass_counts_and_nu_stays() -> None:
    norm, twin = made(warmup=1), made(warmup=1)
    twin.load_state_dict(norm.state_dict())
    for _ in range(3):
        x = torch.randn(N, T, C, dtype=F64)
        with torch.no_grad():
            y = norm(x)
        assert_equal(y, twin(x).detach())
    for one, two in zip(norm.buffers(), twin.buffers()):
        assert_equal(one, two)
    assert not norm.running_product.any()
    assert int(norm.num_batches_tracked) == 3


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e6])
def test_poisoned_padding_changes_nothing(poison: float, warmup: int) -> None:
    norm = made(warmup=warmup)
    twin = copy.deepcopy(norm)
    lengths = [4, 1, 2]
    for _ in range(3):
        clean = torch.randn(N, T, C, dtype=F64)
        bad = clean.clone()
        for n, length in enumerate(lengths):
            bad[n, length:] = poison
        results = []
        for module, x in ((norm, bad), (twin, clean)):
            x.requires_grad_()
            y = module(x, lengths)
            cotangent = torch.arange(y.numel(), dtype=F64).reshape(y.shape).cos()
            results.append([y, *torch.autograd.grad(y, [x, *module.parameters()], cotangent)])
        for one, two in zip(*results):
            assert_equal(one, two)
        for one, two in zip(norm.buffers(), twin.buffers()):
            assert_equal(one, two)


def test_rows_without_padding() -> None:
    norm = made(warmup=1)
    twin = copy.deepcopy(norm)
    for _ in range(3):
        x = torch.randn(N, T, C, dtype=F64)
        lengths = [4, 2, 3]
        rows = torch.cat([x[n, :length] for n, length in enumerate(lengths)])
        flat = norm(rows, cu_seqlens=[0, 4, 6, 9])
        whole = twin(x, lengths)
        assert_close(flat, torch.cat([whole[n, :k] for n, k in enumerate(lengths)]), VALUES)
        for y in (flat, whole):
            y.square().sum().backward()
        for one, two in zip(norm.buffers(), twin.buffers()):
            assert_close(one, two, VALUES if one.is_floating_point() else 0.0)


def test_state_dicts_and_resetting() -> None:
    norm = made(momentum=0.2, warmup=7)
    norm(torch.randn(N, T, C, dtype=F64)).sum().backward()
    names = ["weight", "bias", "running_square", "running_product", "num_batches_tracked"]
    assert list(norm.state_dict()) == names
    assert "momentum=0.2, warmup=7" in repr(norm)
    norm.reset_parameters()
    for one, two in zip(
        norm.state_dict().values(), PowerNorm(C, layout="NTC").state_dict().values()
    ):
        assert_equal(one, two.to(one.dtype))
    plain = PowerNorm(C, affine=False, layout="NTC")
    assert list(plain.state_dict()) == names[2:]
    assert plain(torch.randn(N, T, C)).shape == (N, T, C)


def test_half_precision() -> None:
    norm = PowerNorm(C, layout="NTC", dtype=torch.bfloat16, warmup=1)
    for _ in range(3):
        x = torch.randn(N, T, C, dtype=torch.bfloat16, requires_grad=True)
        y = norm(x)
        y.float().sum().backward()
        assert y.dtype == torch.bfloat16
        assert x.grad is not None
        assert x.grad.dtype == torch.bfloat16
    assert norm.running_square.dtype == torch.bfloat16


def test_a_checkpoint_is_refused_and_so_are_gradients_of_gradients() -> None:
    norm = made(warmup=0)
    x = torch.randn(N, T, C, dtype=F64, requires_grad=True)
    y = checkpoint(norm, x, use_reentrant=False)
    with pytest.raises(RuntimeError, match=r"leave the norm out of torch\.utils\.checkpoint"):
        y.sum().backward()
    (grad,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@needs_compiler
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, at a graph break
def test_compiled() -> None:
    torch.compiler.reset()
    norm = made(warmup=1)
    twin = copy.deepcopy(norm)
    compiled = torch.compile(twin, backend="aot_eager")
    for _ in range(3):
        x = torch.randn(N, T, C, dtype=F64)
        grads = []
        for module, function in ((norm, norm), (twin, compiled)):
            leaf = x.clone().requires_grad_()
            y = function(leaf, torch.tensor([4, 2, 3]))
            grads.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *module.parameters()])])
        for one, two in zip(*grads):
            assert_close(one, two, VALUES)
        for one, two in zip(norm.buffers(), twin.buffers()):
            assert_close(one, two, VALUES if one.is_floating_point() else 0.0)
    norm.eval()
    whole = torch.compile(twin.eval(), backend="aot_eager", fullgraph=True)
    assert_close(whole(x), norm(x), VALUES)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"momentum": 0.0}, ValueError, r"momentum must lie in \(0, 1\], got 0"),
        ({"momentum": None}, TypeError, "momentum should be a number"),
        ({"warmup": -1}, ValueError, "warmup must not be negative"),
        ({"warmup": 1.5}, TypeError, "warmup should be of type int"),
        ({"max_steps": 3}, TypeError, "PowerNorm has no argument 'max_steps'"),
    ],
)
def test_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PowerNorm(C, layout="NTC", **options)
    with pytest.raises(TypeError, match="which axis holds the channels"):
        PowerNorm(C)  # type: ignore[call-arg]  # on purpose


def test_processes_do_not_share_its_statistics() -> None:
    model = torch.nn.Sequential(PowerNorm(C, layout="NTC"), torch.nn.BatchNorm1d(C))
    with pytest.warns(UserWarning, match="processes do not share the statistics of PowerNorm"):
        seqnorm.convert_sync_batchnorm(model)


def test_the_set() -> None:
    of = seqnorm.statistics_set(PowerNorm(8, layout="NTC"))
    assert of.words == "one channel, all sequences of the mini-batch, all time steps"
    assert of.running
    assert not of.centred
    text = str(of)
    assert "The mean is not subtracted: what S shares is the mean square." in text
    assert "After its warm-up, training normalises by the running statistics" in text
    assert "After its warm-up" in of.svg()


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_gradients_that_overflow_leave_no_trace(warmup: int, value: float) -> None:
    """A loss scale ends in such a gradient, and the optimiser then skips the step."""
    norm = made(warmup=warmup)
    for cotangent in (1.0, value, 1.0):
        before = norm.running_product.clone()
        x = torch.randn(N, T, C, dtype=F64, requires_grad=True)
        norm(x).backward(torch.full((N, T, C), cotangent, dtype=F64))
        assert torch.equal(norm.running_product, before) == (cotangent != 1.0)
        assert x.grad is not None
        assert bool(x.grad.isfinite().all()) == (cotangent == 1.0)
