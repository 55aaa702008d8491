"""Extreme numbers of a dtype: NaN only where torch has NaN, and the same infinities.

Axes: N examples, C channels, T steps; positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqnorm

C = 4
Drawn = Callable[[Tensor], Tensor]
DATA: dict[str, Drawn] = {
    "deviation 900": lambda z: 900.0 * z,
    "near the largest of float16": lambda z: 60000.0 + 1000.0 * z,
    "both signs": lambda z: 60000.0 * z.sign(),
    "large": lambda z: 1e18 * z,
    "huge": lambda z: 1e30 * (z + 1.0),
    "subnormal": lambda z: 1e-40 * z,
    "equal": lambda z: torch.full_like(z, 60000.0),
    "zero": torch.zeros_like,
    "infinite": lambda z: torch.where(z == z.max(), torch.inf, z),
    "no number": lambda z: torch.where(z == z.max(), torch.nan, z),
}
SHAPES = {
    "BatchNorm1d": (8, C),
    "BatchNorm2d": (8, C, 3, 3),
    "BatchNorm3d": (4, C, 2, 3, 3),
    "InstanceNorm1d": (8, C, 5),
    "InstanceNorm2d": (8, C, 3, 3),
    "GroupNorm": (8, C, 3, 3),
}


def both(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return ours and torch's."""
    groups = (2,) if name == "GroupNorm" else ()
    ours, theirs = (getattr(of, name)(*groups, C, dtype=dtype) for of in (seqnorm, nn))
    return ours, theirs


def answers(norm: Any, x: Tensor) -> dict[str, Tensor]:
    """Return the results of two batches in training, and of one in inference."""
    norm.train()
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
    (grad,) = torch.autograd.grad(y, leaf, torch.linspace(-1, 1, x.numel()).reshape(x.shape).to(y))
    buffers = {k: v.clone() for k, v in norm.named_buffers()}
    return {"y": y.detach(), "gradient": grad, "inference": norm.eval()(x).detach(), **buffers}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("parameters", [None, torch.float32])
@pytest.mark.parametrize("name", SHAPES)
def test_no_nan_where_torch_has_none(
    name: str, parameters: torch.dtype | None, dtype: torch.dtype, data: str
) -> None:
    ours, theirs = both(name, parameters or dtype)
    x = DATA[data](torch.randn(SHAPES[name], dtype=torch.float64)).to(dtype)
    try:
        expected = answers(theirs, x)
    except RuntimeError:
        pytest.skip("torch does not take this pair of dtypes")
    found = answers(ours, x)
    for key, right in expected.items():
        assert not (found[key].isnan() & ~right.isnan()).any(), key
    # Statistics overflow exactly where torch's do.
    for key in ("running_mean", "running_var"):
        if key in expected:
            value, right = found[key].double(), expected[key].double()
            assert torch.equal(value.isinf(), right.isinf()), key
            finite = right.isfinite()
            bound = 16 * torch.finfo(parameters or dtype).eps
            torch.testing.assert_close(value[finite], right[finite], rtol=bound, atol=bound)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_variance_beyond_the_dtype_is_infinite(dtype: torch.dtype, masked: bool) -> None:
    """It normalises to 0 in inference, also after further batches."""
    norm = seqnorm.BatchNorm2d(C, dtype=dtype)
    x = (torch.randn(8, C, 3, 3) * (1e4 if dtype == torch.float16 else 1e30)).to(dtype)
    mask = torch.ones(8, 3, 3, dtype=torch.bool) if masked else None
    for _ in range(3):
        norm(x, mask)
    assert norm.running_var is not None
    assert norm.running_var.isposinf().all()
    assert not norm.eval()(x, mask).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["InstanceNorm1d", "InstanceNorm2d"])
def test_equal_numbers_are_normalised_to_zero(name: str, dtype: torch.dtype) -> None:
    """torch's norm in half precision does the same; rounding of the mean must not show."""
    ours, _ = both(name, dtype)
    assert not ours(torch.full(SHAPES[name], 60000.0, dtype=dtype)).any()


@pytest.mark.parametrize("momentum", [0.1, 0.9, None])
@pytest.mark.parametrize("steps", [None, 5])
def test_tables_hold_a_variance_beyond_float32(steps: int | None, momentum: float | None) -> None:
    norm = seqnorm.BatchNorm(C, momentum=momentum, max_steps=steps, layout="NTC")
    x = 1e30 * torch.randn(6, 5, C)
    for _ in range(3):
        assert not norm(x).any()
    assert norm.table.running_var.isposinf().all()
    assert norm.table.running_mean.isfinite().all()
    assert not norm.eval()(x).any()
    layer = seqnorm.GRU(C, 3, norm=seqnorm.NormScheme(frame=seqnorm.Norm("batch_pooled")))
    for _ in range(3):
        layer(x)
    assert layer.eval()(x)[0].isfinite().all()


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_statistics_taken_anew_hold_it_too(estimate: str) -> None:
    model = nn.ModuleList([nn.BatchNorm1d(C), seqnorm.BatchNorm1d(C)])
    batches = [1e30 * torch.randn(8, C) for _ in range(3)]
    seqnorm.reestimate_statistics(
        model,
        batches,
        lambda model, x: [norm(x) for norm in model],
        estimate=estimate,  # type: ignore[union-attr, operator]  # a ModuleList
    )
    for name, buffer in model.named_buffers():
        assert not buffer.isnan().any(), name
        assert buffer.isinf().all() == name.endswith("running_var"), name
