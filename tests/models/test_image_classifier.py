"""The image classifier: shapes, norms, ghost batches compared with single groups, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from zipped import zipped

from seqnorm.models.image_classifier import (
    NORMS,
    GhostBatchNorm2d,
    ImageClassifier,
)
from seqnorm.nn import BatchNorm2d, reestimate_statistics
from seqnorm.nn.statistics import batch_statistics


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [28, 32])
def test_every_parameter_learns(norm: str, size: int) -> None:
    model = ImageClassifier(3, 5, norm=norm, width=4)
    logits = model(torch.randn(6, 3, size, size))
    assert logits.shape == (6, 5)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("norm", [norm for norm in NORMS if "batch" not in norm])
def test_an_image_does_not_know_its_batch(norm: str) -> None:
    model = ImageClassifier(1, 3, norm=norm, width=4).double()
    images = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone)


def test_the_same_seed_draws_the_same_weights_for_every_norm() -> None:
    drawn = []
    for norm in ("batch", "batch_renorm", "group", "layer", "instance"):
        torch.manual_seed(0)
        drawn.append(ImageClassifier(1, 3, norm=norm, width=4))
    for model in drawn[1:]:
        for a, b in zipped(drawn[0].parameters(), model.parameters()):
            assert torch.equal(a, b)


@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
def test_ghost_batches_are_batches_one_after_the_other(group_size: int) -> None:
    norm = GhostBatchNorm2d(3, group_size).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    plain = BatchNorm2d(3).double()
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn_like(x)
    y = norm(x)
    gradients = torch.autograd.grad(y, [x, *norm.parameters()], cotangent)
    groups, means, variances = [], [], []
    for part in x.split(group_size):
        single = copy.deepcopy(plain)
        groups.append(single(part))
        means.append(single.running_mean)
        variances.append(single.running_var)
    # The copies have parameters of their own, with equal values.
    slow = torch.cat(
        [
            nn.functional.batch_norm(p, None, None, plain.weight, plain.bias, True)
            for p in x.split(group_size)
        ]
    )
    expected = torch.autograd.grad(slow, [x, *plain.parameters()], cotangent)
    torch.testing.assert_close(y, torch.cat(groups))
    for ours, theirs in zipped(gradients, expected):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))
    torch.testing.assert_close(norm.eval()(x), _by_table(norm, x))


def test_ghost_batches_without_tracking_change_nothing() -> None:
    norm = GhostBatchNorm2d(3, 2)
    norm(1 + torch.randn(6, 3, 4, 5))
    assert norm.num_batches_tracked == 1
    before = copy.deepcopy(norm.state_dict())
    with batch_statistics(norm):
        norm(3 + torch.randn(6, 3, 4, 5))
    assert norm(torch.randn(0, 3, 4, 5)).shape == (0, 3, 4, 5)
    with pytest.raises(ValueError, match="cannot be divided"):
        reestimate_statistics(norm, [torch.randn(6, 3, 4, 5), torch.randn(5, 3, 4, 5)])
    for key, value in before.items():
        assert torch.equal(norm.state_dict()[key], value), key


def _by_table(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    normalised = (x - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
    return normalised * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"norm 'bach' is unknown: write one of batch, batch_re"):
        ImageClassifier(1, 3, norm="bach")
    with pytest.raises(ValueError, match="group_size is an option of norm 'batch', not of 'gr"):
        ImageClassifier(1, 3, norm="group", group_size=2)
    with pytest.raises(ValueError, match="width must be a multiple of 4"):
        ImageClassifier(1, 3, norm="group", width=6)
    with pytest.raises(ValueError, match="group_size must be at least 1"):
        GhostBatchNorm2d(3, 0)
    with pytest.raises(ValueError, match="5 images cannot be divided into groups of 2"):
        ImageClassifier(1, 3, group_size=2)(torch.zeros(5, 1, 28, 28))
    with pytest.raises(ValueError, match="takes no mask"):
        GhostBatchNorm2d(3, 2)(torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool))
