"""Batch Renormalization in norms of padded sequences, against loops over rows.

Axes: N sequences, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import oracles
import pytest
import torch
from beside_reference import F64
from tolerances import GRADIENTS, VALUES, assert_close, assert_equal
from torch import Tensor, nn

import seqnorm
from seqnorm import Norm

RENORM: dict[str, Any] = {"r_max": 1.3, "d_max": 0.4}
# In the last batch, steps that have running statistics have few rows.
LENGTHS = [[6, 1, 0, 4, 2], [6, 6, 5, 6, 6], [6, 1, 0, 4, 2]]
C = 3


def by_loops(
    norm: Any, x: Tensor, lengths: Sequence[int], table: oracles.Table, per_step: bool, which: Norm
) -> Tensor:
    """Return y (N, T, C) of a norm of sequences in training, and update the table."""
    site = oracles.Site(which, [C], norm.weight, norm.bias, table, True)
    y = torch.zeros_like(x)
    places = [(n, t) for n, length in enumerate(lengths) for t in range(length)]
    sets = [[p for p in places if p[1] == t] for t in range(6)] if per_step else [places]
    for step, rows in enumerate(sets):
        if rows:
            for (n, t), row in zip(rows, site(step, [x[n, t] for n, t in rows])):
                y[n, t] = row
    return y


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("max_steps", "min_count"), [(None, 2), (20, 2), (3, 2), (20, 3)])
def test_norms_of_sequences(max_steps: int | None, min_count: int, momentum: float | None) -> None:
    """Outputs, gradients and tables of three batches, whose first has no statistics to go by."""
    options: dict[str, Any] = {"momentum": momentum, "min_count": min_count, **RENORM}
    norm = seqnorm.BatchNorm(C, max_steps=max_steps, layout="NTC", dtype=F64, **options)
    assert norm.weight is not None
    nn.init.uniform_(norm.weight)
    kind = "batch_pooled" if max_steps is None else "batch"
    table = oracles.Table.initial(max_steps or 1, C)
    for lengths in LENGTHS:
        x = (torch.randn(5, 6, C).double() * 2 + 1).requires_grad_()
        cotangent = torch.randn_like(x)
        expected = by_loops(norm, x, lengths, table, max_steps is not None, Norm(kind, **options))
        found = norm(x, lengths)
        assert_close(found, expected, VALUES)
        leaves = [x, *norm.parameters()]
        pairs = zip(
            torch.autograd.grad(found, leaves, cotangent),
            torch.autograd.grad(expected, leaves, cotangent),
        )
        for mine, theirs in pairs:
            assert_close(mine, theirs, GRADIENTS)
        assert_close(norm.table.running_mean, torch.stack(table.mean), VALUES)
        assert_close(norm.table.running_var, torch.stack(table.var), VALUES)
        assert norm.table.count.tolist() == table.count


def test_padding_does_not_matter() -> None:
    results = []
    for poison in (0.0, float("nan"), float("inf"), 1e6):
        torch.manual_seed(0)
        norm = seqnorm.BatchNorm(C, max_steps=20, layout="NTC", dtype=F64, **RENORM)
        norm(torch.randn(5, 6, C).double())
        x = torch.randn(5, 6, C).double()
        for n, length in enumerate(LENGTHS[0]):
            x[n, length:] = poison
        x.requires_grad_()
        y = norm(x, LENGTHS[0])
        y.square().sum().backward()
        assert x.grad is not None
        results.append([y.detach(), x.grad, norm.table.running_mean, norm.table.running_var])
    for others in results[1:]:
        for found, expected in zip(others, results[0]):
            assert_equal(found, expected)
