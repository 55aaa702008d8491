"""Pooling compared with loops over the valid steps of one sequence at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from zipped import zipped

from seqnorm.models import Pooling
from seqnorm.models.pooling import PARTS

LENGTHS = torch.tensor([5, 0, 1, 3])
MODES = [*PARTS, "mean+max", "last+attention+mean"]


def pool_one(pooling: Pooling, part: str, steps: list[Tensor]) -> Tensor:
    """Pool ``steps``, the outputs (H,) of the valid steps of one sequence, at least one."""
    if part == "last":
        half = pooling.size // 2
        forward, backward = steps[-1], steps[0]
        return torch.cat([forward[:half], backward[half:]]) if pooling.bidirectional else forward
    if part == "mean":
        return sum(steps[1:], steps[0]) / len(steps)
    if part == "max":
        return torch.stack([max(column) for column in zipped(*steps)])
    weights = [
        torch.exp(
            pooling.query @ torch.tanh(pooling.projection.weight @ s + pooling.projection.bias)
        )
        for s in steps
    ]
    return sum((w * s for w, s in zipped(weights, steps)), steps[0] * 0) / sum(weights)


def pool_by_loops(pooling: Pooling, output: Tensor, lengths: Tensor) -> Tensor:
    rows = []
    for sequence, length in zipped(output, lengths.tolist()):
        if length == 0:
            rows.append(output.new_zeros(pooling.output_size))
        else:
            steps = list(sequence[:length])
            rows.append(torch.cat([pool_one(pooling, part, steps) for part in pooling.parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_equals_loops(mode: str, bidirectional: bool) -> None:
    pooling = Pooling(mode, 6, bidirectional).double()
    output = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    pooled, expected = pooling(output, LENGTHS), pool_by_loops(pooling, output, LENGTHS)
    torch.testing.assert_close(pooled, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(pooled)
    inputs = [output, *pooling.parameters()]
    gradients = torch.autograd.grad(pooled, inputs, cotangent)
    for ours, theirs in zipped(gradients, torch.autograd.grad(expected, inputs, cotangent)):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("mode", MODES)
def test_padding_changes_nothing(mode: str, poison: float) -> None:
    pooling = Pooling(mode, 6)
    output = torch.randn(4, 5, 6)
    padding = torch.arange(5) >= LENGTHS[:, None]
    poisoned = output.masked_fill(padding[..., None], poison).requires_grad_()
    pooled = pooling(poisoned, LENGTHS)
    assert torch.equal(pooled, pooling(output, LENGTHS))
    assert torch.equal(pooled[1], torch.zeros(pooling.output_size))
    (gradient,) = torch.autograd.grad(pooled.sum(), poisoned)
    assert torch.isfinite(gradient).all()
    assert gradient[padding].abs().max() == 0
    # A wider tensor is also padding.
    narrow = pooling(output[:, :3], LENGTHS.clamp(max=3))
    torch.testing.assert_close(pooling(output, LENGTHS.clamp(max=3)), narrow)


@pytest.mark.parametrize("mode", MODES)
def test_lengths_may_stand_on_another_device(mode: str) -> None:
    pooling = Pooling(mode, 6, bidirectional=True).to("meta")
    pooled = pooling(torch.empty(4, 5, 6, device="meta"), LENGTHS)
    assert pooled.shape == (4, pooling.output_size)


@pytest.mark.parametrize(
    ("mode", "size", "bidirectional", "message"),
    [
        ("avg", 6, False, "unknown part 'avg'.*last, mean, max, attention"),
        ("mean+", 6, False, "unknown part ''"),
        ("mean+mean", 6, False, "repeats a part"),
        ("mean", 5, True, "even number"),
    ],
)
def test_bad_arguments(mode: str, size: int, bidirectional: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pooling(mode, size, bidirectional)
