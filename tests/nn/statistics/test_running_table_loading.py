"""A RunningTable cast to another dtype, and loaded into one with equal, more or fewer steps.

Axes: S = max_steps, F features, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
import io
import re
import warnings
from typing import Any

import pytest
import torch
from table_rows import BATCHED, F, H, I, S, batch_of, feed, table_of
from tolerances import assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.statistics import RunningTable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_single(dtype: torch.dtype) -> None:
    made = RunningTable(F, S, dtype=dtype)
    cast = RunningTable(F, S)
    feed(cast, [rows.float() for rows in batch_of([4, 4])])
    before = {name: value.clone() for name, value in cast.named_buffers()}
    cast.to(dtype)
    for table in (made, cast):
        assert table.running_mean.dtype == table.running_var.dtype == torch.float32
        assert table.count.dtype == torch.int64
    for name, value in before.items():
        assert_equal(getattr(cast, name), value, name)
    assert cast.double().running_mean.dtype == torch.float64
    layer = seqnorm.LSTM(I, H, norm="batch").to(dtype)
    assert layer.norm_ih_l0.weight.dtype == dtype
    assert layer.norm_ih_l0.table.running_var.dtype == torch.float32
    output, _ = layer(torch.randn(3, 4, I).to(dtype))
    assert output.dtype == dtype
    assert layer.norm_ih_l0.table.count[:3].tolist() == [4, 4, 4]


def saved(module: torch.nn.Module) -> dict[str, Tensor]:
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    loaded: dict[str, Tensor] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("steps", [S, 2 * S, 3, 1])
def test_loading_another_number_of_steps(steps: int) -> None:
    table = table_of()
    feed(table, batch_of([4, 3, 2]))
    other = table_of(max_steps=steps)
    feed(other, batch_of([6] * steps))
    state = saved(table)
    untouched = {name: value.clone() for name, value in state.items()}
    if steps < 3:
        pattern = re.escape(f"statistics of 3 steps, this table has max_steps={steps}")
        with pytest.warns(UserWarning, match=pattern):
            other.load_state_dict(state)
    else:
        other.load_state_dict(state)
    kept = min(steps, S)
    fresh = dict(table_of(max_steps=steps).named_buffers())
    for name, value in table.named_buffers():
        assert_equal(getattr(other, name)[:kept], value[:kept], name)
        assert_equal(getattr(other, name)[kept:], fresh[name][kept:], name)
    for name, value in untouched.items():
        assert_equal(state[name], value, f"the state dict's own {name}")


def test_loading_what_does_not_fit() -> None:
    state = saved(RunningTable(F + 1, S))
    with pytest.raises(RuntimeError, match="size mismatch for running_mean"):
        table_of().load_state_dict(state)
    state = saved(table_of())
    del state["count"]
    with pytest.raises(RuntimeError, match="Missing key"):
        table_of().load_state_dict(state)


@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_state_dict_of_a_layer(name: str, cell: str) -> None:
    """Inference is the same after loading into a layer with more or fewer steps."""

    def build(steps: int) -> Any:
        norm = seqnorm.preset(name, cell, max_steps=steps)
        return getattr(seqnorm, cell)(I, H, bidirectional=True, norm=norm)

    layer = build(6)
    for _ in range(3):
        layer(torch.randn(4, 5, I), lengths=[4, 2, 4, 3, 1])
    layer.eval()
    input = torch.randn(6, 2, I)
    wanted = layer(input)[0]
    for steps in (6, 20, 4):
        other = build(steps)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other.load_state_dict(saved(layer))
        assert_equal(other.eval()(input)[0], wanted)
    other = copy.deepcopy(layer)
    assert_equal(other(input)[0], wanted)
