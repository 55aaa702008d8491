"""EvalNorm: blended statistics in inference against loops, and the fit against the values itself.

Axes: N examples, C channels, then positions.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle_images import indices, statistics
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm import fit_eval_norm
from seqnorm.models.image_classifier import GhostBatchNorm2d

F64 = torch.float64
N, C = 3, 2
KINDS = [seqnorm.BatchNorm1d, seqnorm.BatchNorm2d, seqnorm.BatchNorm3d]
EPS = 1e-3


def drawn(norm: nn.Module) -> Any:
    """Give a norm parameters, statistics and shares of no special value."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
        for name, buffer in norm.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.3, 2.0)
            if name == "table.count":
                buffer.fill_(7)
    norm.set_share(0.3, 0.6, torch.empty(0, dtype=F64))  # type: ignore[operator]  # a norm's method
    return norm.eval()


def expected(norm: Any, x: Tensor, mask: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Return the equation for x (N, C, *), one element after the other."""
    alpha, beta = norm.example_share.tolist()
    own = statistics(x, mask, lambda n, c, p: (n, c))
    out = []
    for n, c, *p in indices(x):
        if not mask[(n, *p)]:
            out.append(x.new_zeros(()))
            continue
        m, v, _ = own[n, c]
        centre = alpha * m + (1 - alpha) * mean[c]
        spread = beta * v + (1 - beta) * var[c]
        y = (x[(n, c, *p)] - centre) / torch.sqrt(spread + EPS)
        out.append(norm.weight[c] * y + norm.bias[c])
    return torch.stack(out).reshape(x.shape)


def compare(norm: Any, actual: Tensor, wanted: Tensor, x: Tensor) -> None:
    assert_close(actual, wanted, VALUES)
    leaves = [x, norm.weight, norm.bias]
    cotangent = torch.randn_like(actual)
    found = torch.autograd.grad(actual, leaves, cotangent)
    for one, two in zip(found, torch.autograd.grad(wanted, leaves, cotangent)):
        assert_close(one, two, GRADIENTS)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_images_equal_the_loop(dims: int, masked: bool) -> None:
    norm = drawn(KINDS[dims - 1](C, EPS, dtype=F64))
    shape = (N, C, *(3, 2, 2)[:dims])
    mask = torch.ones(N, *shape[2:], dtype=torch.bool)
    if masked:
        mask = torch.rand(mask.shape) < 0.6
        mask[0] = False  # an example without a valid position
        mask[1].view(-1)[:2] = True
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    actual = norm(x, mask[:, None]) if masked else norm(x)
    compare(norm, actual, expected(norm, x, mask, norm.running_mean, norm.running_var), x)


@pytest.mark.parametrize("form", ["NTC", "NCT", "rows"])
def test_sequences_equal_the_loop(form: str) -> None:
    layout = "NCT" if form == "NCT" else "NTC"
    norm = drawn(seqnorm.BatchNorm(C, EPS, layout=layout, dtype=F64))
    lengths, steps = [4, 1, 2], 5
    x = torch.randn(N, steps, C, dtype=F64, requires_grad=True)
    if form == "rows":
        rows = norm(torch.cat([x[n, :k] for n, k in enumerate(lengths)]), cu_seqlens=[0, 4, 5, 7])
        parts = [
            nn.functional.pad(part, (0, 0, 0, steps - len(part))) for part in rows.split(lengths)
        ]
        actual = torch.stack(parts)
    elif form == "NTC":
        actual = norm(x, lengths)
    else:
        actual = norm(x.transpose(1, 2), lengths).transpose(1, 2)
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    mean, var = norm.table.running_mean[0], norm.table.running_var[0]
    wanted = expected(norm, x.transpose(1, 2), mask, mean, var).transpose(1, 2)
    compare(norm, actual, wanted, x)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e6])
def test_poisoned_padding_changes_nothing(poison: float) -> None:
    norm = drawn(seqnorm.BatchNorm(C, EPS, layout="NTC", dtype=F64))
    clean = torch.randn(N, 4, C, dtype=F64)
    bad = clean.clone()
    bad[1, 1:] = bad[2, 3:] = poison
    found = []
    for x in (clean, bad):
        x.requires_grad_()
        y = norm(x, [4, 1, 3])
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *norm.parameters()])])
    for one, two in zip(*found):
        assert_equal(one, two)


def test_training_is_as_before() -> None:
    norm = drawn(seqnorm.BatchNorm2d(C, EPS, dtype=F64)).train()
    plain = seqnorm.BatchNorm2d(C, EPS, dtype=F64)
    plain.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "example_share"})
    x = torch.randn(N, C, 3, 3, dtype=F64)
    assert_equal(norm(x), plain(x))
    for name, value in plain.state_dict().items():
        assert_equal(norm.state_dict()[name], value, name)
    seqnorm.freeze_statistics(norm)
    assert_equal(norm(x), norm.eval()(x))


class Small(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(C, C, 1).double()
        self.norm = norm
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.drop(self.first(x)))


def difference(
    inputs: list[Tensor], masks: list[Tensor], norm: Any, alpha: float, beta: float
) -> float:
    """Return the mean squared difference of values in training and in inference, by the values."""
    total, count = 0.0, 0
    for x, mask in zip(inputs, masks):
        own = statistics(x, mask, lambda n, c, p: (n, c))
        batch = statistics(x, mask, lambda n, c, p: c)
        for n, c, *p in indices(x):
            if not mask[(n, *p)]:
                continue
            value = x[(n, c, *p)]
            trained = (value - batch[c][0]) / (batch[c][1] + norm.eps) ** 0.5
            mean = alpha * own[n, c][0] + (1 - alpha) * norm.running_mean[c]
            var = beta * own[n, c][1] + (1 - beta) * norm.running_var[c]
            total += float((trained - (value - mean) / (var + norm.eps) ** 0.5) ** 2)
            count += 1
    return total / count


def test_the_fit_has_the_least_difference() -> None:
    torch.manual_seed(3)
    model = Small(seqnorm.BatchNorm2d(C, EPS, dtype=F64))
    inputs = [torch.randn(2, C, 3, 2).double() + 2 * torch.randn(2, C, 1, 1) for _ in range(6)]
    seqnorm.reestimate_statistics(model, inputs)
    before = copy.deepcopy(model.state_dict())
    model.train()
    (found,) = fit_eval_norm(model, inputs).values()
    assert model.training
    for name, value in before.items():
        assert_equal(model.state_dict()[name], value, name)
    assert_close(
        model.norm.example_share, torch.tensor([found.alpha, found.beta], dtype=F64), VALUES
    )
    whole = [torch.ones(2, 3, 2, dtype=torch.bool)] * len(inputs)
    with torch.no_grad():
        met = [model.first(x) for x in inputs]
    assert found.before == pytest.approx(difference(met, whole, model.norm, 0.0, 0.0))
    best = difference(met, whole, model.norm, found.alpha, found.beta)
    assert found.after == pytest.approx(best)
    assert 0 < found.alpha < 1
    assert 0 < found.beta < 1
    for a, b in itertools.product((-0.02, 0.0, 0.02), repeat=2):
        nearby = difference(met, whole, model.norm, found.alpha + a, found.beta + b)
        assert nearby >= best - 1e-9
    for a, b in itertools.product((0.0, 0.5, 1.0), repeat=2):
        assert difference(met, whole, model.norm, a, b) >= best


def test_the_fit_reads_no_padding() -> None:
    torch.manual_seed(4)
    lengths = [[4, 2], [3, 4], [1, 2]]
    batches = [torch.randn(2, 4, C).double() + 2 * torch.randn(2, 1, C) for _ in lengths]
    bad = [x.clone() for x in batches]
    for x, ends in zip(bad, lengths):
        for n, end in enumerate(ends):
            x[n, end:] = math.nan
    found = []
    for given in (batches, bad):
        norm = seqnorm.BatchNorm(C, layout="NTC", dtype=F64)
        seqnorm.reestimate_statistics(norm, zip(batches, lengths), lambda m, b: m(*b))
        found.append(fit_eval_norm(norm, zip(given, lengths), lambda m, b: m(*b))[""])
        swapped = seqnorm.BatchNorm(C, layout="NCT", dtype=F64)
        swapped.load_state_dict({k: v for k, v in norm.state_dict().items() if "share" not in k})
        turned = [(x.transpose(1, 2), ends) for x, ends in zip(given, lengths)]
        found.append(fit_eval_norm(swapped, turned, lambda m, b: m(*b))[""])
        rows = [torch.cat([x[n, :k] for n, k in enumerate(e)]) for x, e in zip(given, lengths)]
        bounds = [[0, a, a + b] for a, b in lengths]
        flat = copy.deepcopy(norm)
        again = fit_eval_norm(flat, zip(rows, bounds), lambda m, b: m(b[0], cu_seqlens=b[1]))
        found.append(again[""])
    inputs = [x.transpose(1, 2) for x in batches]
    masks = [torch.arange(4) < torch.tensor(ends)[:, None] for ends in lengths]
    image = seqnorm.BatchNorm1d(C, dtype=F64)
    image.running_mean, image.running_var = norm.table.running_mean[0], norm.table.running_var[0]
    for each in found:
        assert each == pytest.approx(found[0])
    assert found[0].before == pytest.approx(difference(inputs, masks, image, 0.0, 0.0))
    assert found[0].after == pytest.approx(
        difference(inputs, masks, image, found[0].alpha, found[0].beta)
    )
    assert found[0].after < found[0].before


@pytest.mark.parametrize("size", [2, 4, 16])
def test_the_share_of_the_mean_is_that_of_an_example_in_its_batch(size: int) -> None:
    """Where examples differ slightly, in their means alone, a batch has 1/size of each mean."""
    torch.manual_seed(size)
    plane = torch.randn(16, 16).double()
    plane = (plane - plane.mean()) / plane.std(correction=0)
    batches = [plane + 0.01 * torch.randn(size, 1, 1, 1).double() for _ in range(400)]
    norm = seqnorm.BatchNorm2d(1, dtype=F64)
    seqnorm.reestimate_statistics(norm, batches)
    found = fit_eval_norm(norm, batches)[""]
    assert found.alpha == pytest.approx(1 / size, rel=0.1)
    assert found.after < found.before


def test_state_dicts_and_their_loading() -> None:
    norm = drawn(seqnorm.BatchNorm2d(C, dtype=F64))
    assert list(norm.state_dict())[-1] == "example_share"
    assert "alpha=0.3, beta=0.6" in repr(norm)
    new = seqnorm.BatchNorm2d(C, dtype=F64).eval()
    assert "example_share" not in new.state_dict()
    new.load_state_dict(norm.state_dict())
    x = torch.randn(N, C, 3, 3, dtype=F64)
    assert_equal(new(x), norm(x))
    assert_equal(copy.deepcopy(new)(x), norm(x))
    with pytest.raises(RuntimeError, match=r"Missing key.*example_share"):
        new.load_state_dict(seqnorm.BatchNorm2d(C).state_dict())
    with pytest.raises(ValueError, match=r"example_share.*would be lost"):
        seqnorm.convert_norm(nn.Sequential(new), "batch")
    again = copy.deepcopy(new)
    again.reset_parameters()
    assert again.share is None
    del new.example_share
    assert new.share is None
    assert "alpha" not in repr(new)
    assert not torch.allclose(new(x), norm(x))
    fit_eval_norm(new, [x])
    assert new.share is not None
    sequences = drawn(seqnorm.BatchNorm(C, layout="NTC", dtype=F64))
    other = seqnorm.BatchNorm(C, layout="NTC", dtype=F64).eval()
    other.load_state_dict(sequences.state_dict())
    assert_equal(other(x[..., 0].mT), sequences(x[..., 0].mT))


@needs_compiler
def test_compiled() -> None:
    torch.compiler.reset()
    norm = drawn(seqnorm.BatchNorm2d(C, dtype=F64))
    x = torch.randn(N, C, 3, 3, dtype=F64)
    assert_close(torch.compile(norm, backend="aot_eager", fullgraph=True)(x), norm(x), VALUES)


def test_half_precision() -> None:
    norm = seqnorm.BatchNorm2d(C, dtype=torch.bfloat16)
    x = torch.randn(N, C, 3, 3, dtype=torch.bfloat16)
    fit_eval_norm(norm, [x])
    assert norm.example_share.dtype == torch.bfloat16
    assert norm.eval()(x).dtype == torch.bfloat16


def test_only_a_part_is_fitted() -> None:
    model = nn.Sequential(nn.Sequential(seqnorm.BatchNorm2d(C)), nn.BatchNorm2d(C))
    x = torch.randn(N, C, 3, 3)
    assert list(fit_eval_norm(model, [x], part=model[0])) == ["0"]
    assert model[0][0].share is not None


REFUSED: list[tuple[Callable[[], nn.Module], tuple[int, ...], str]] = [
    (lambda: nn.Linear(C, C), (N, C), "there is no norm to fit"),
    (
        lambda: seqnorm.LSTM(C, 4, norm="batch"),
        (4, N, C),
        r"norm_ih_l0 \(BatchSiteNorm\) has statistics of every time step.*is one element",
    ),
    (
        lambda: seqnorm.LSTM(C, 4, norm="batch_pooled"),
        (4, N, C),
        "is inside a recurrent layer, whose norms do not blend",
    ),
    (
        lambda: seqnorm.BatchNorm(C, layout="NTC", max_steps=5),
        (N, 4, C),
        r"every time step \(max_steps\): the set of an example there is one",
    ),
    (
        lambda: seqnorm.BatchNorm(C, layout="NTC", r_max=2.0, d_max=1.0),
        (N, 4, C),
        "has Batch Renormalization",
    ),
    (
        lambda: seqnorm.BatchNorm2d(C, track_running_stats=False),
        (N, C, 2, 2),
        "has no running statistics",
    ),
    (lambda: nn.BatchNorm2d(C), (N, C, 2, 2), r"seqnorm.convert_norm\(model, to='batch'\)"),
    (lambda: seqnorm.SwitchableNorm2d(C), (N, C, 2, 2), "take seqnorm.BatchNorm2d"),
    (lambda: seqnorm.BatchNorm1d(C), (N, C), "never called with an example of two elements"),
]


@pytest.mark.parametrize(("make", "shape", "message"), REFUSED)
def test_refusals(make: Callable[[], nn.Module], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_eval_norm(make(), [torch.randn(shape)])


def test_wrong_batches() -> None:
    norm = seqnorm.BatchNorm2d(C)
    with pytest.raises(ValueError, match="no batches"):
        fit_eval_norm(norm, [])
    with pytest.raises(ValueError, match="are not finite"):
        fit_eval_norm(norm, [torch.full((N, C, 2, 2), math.inf)])
    with pytest.raises(TypeError, match=r"fit_eval_norm\(model, loader, forward=lambda"):
        fit_eval_norm(norm, [(torch.randn(N, C, 2, 2), 0)])
    with pytest.raises(TypeError, match=r"write fit_eval_norm\(model, batches\)"):
        fit_eval_norm("norm", [])  # type: ignore[arg-type]  # on purpose
    assert norm.share is None


def test_the_set_says_what_inference_blends() -> None:
    for norm in (seqnorm.BatchNorm2d(C), seqnorm.BatchNorm(C, layout="NTC")):
        assert "blends" not in str(seqnorm.statistics_set(norm))
        norm.set_share(0.25, 0.5, torch.empty(0))
        of = seqnorm.statistics_set(norm)
        assert "Inference blends them with those of the" in str(of)
        assert "0.25 of its mean and 0.5 of its variance" in str(of)
        assert "blends" in of.svg()


def test_examples_of_one_position_do_not_blend() -> None:
    norm = drawn(seqnorm.BatchNorm1d(C, dtype=F64))
    with pytest.raises(ValueError, match=r"those of \(4, 2\) have one, .* del norm.example_share"):
        norm(torch.randn(4, C, dtype=F64))
    flat = [torch.randn(4, C), torch.randn(4, C)]
    plain = seqnorm.BatchNorm1d(C)
    with pytest.raises(ValueError, match="never called with an example of two elements"):
        fit_eval_norm(plain, flat)
    found = fit_eval_norm(plain, [flat[0], torch.randn(4, C, 5)])
    assert 0 <= found[""].alpha <= 1


def test_norms_with_a_forward_of_their_own_are_refused() -> None:
    class Flat(seqnorm.BatchNorm):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # another call
            return super().forward(x.flatten(2))

    for norm in (GhostBatchNorm2d(C, 2), Flat(C, layout="NCT")):
        with pytest.raises(ValueError, match="has a forward of its own"):
            fit_eval_norm(norm, [torch.randn(4, C, 3, 3)])


def test_parts_are_of_the_model() -> None:
    model = nn.Sequential(seqnorm.BatchNorm2d(C), seqnorm.BatchNorm2d(C))
    batches = [torch.randn(4, C, 3, 3)]
    with pytest.raises(TypeError, match="fit_eval_norm"):
        fit_eval_norm(model, batches, part=3)  # type: ignore[arg-type]  # not a module
    with pytest.raises(ValueError, match="part, a BatchNorm2d, is not in the model, a Sequential"):
        fit_eval_norm(model, batches, part=seqnorm.BatchNorm2d(C))
    with pytest.raises(ValueError, match=r"1 \(BatchNorm2d\) was never called: fit the part"):
        fit_eval_norm(model, batches, lambda model, x: model[0](x))


def test_statistics_that_a_norm_lacks_are_reported_as_unexpected() -> None:
    fitted = drawn(seqnorm.BatchNorm1d(C, dtype=F64)).state_dict()
    other = seqnorm.BatchNorm1d(C, track_running_stats=False)
    assert "example_share" in other.load_state_dict(fitted, strict=False).unexpected_keys
