"""Statistics from another model: adopted with a count, or copied with a warning.

Axes: S = max_steps, T steps, B sequences, F features, I = input size, H = hidden size.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import VALUES, assert_close, assert_equal
from torch import Tensor, nn
from torch_versions import needs_compiler

import seqnorm
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.statistics import RunningTable

S, F, B, I, H = 5, 3, 4, 3, 8  # noqa: E741  the axes' letters
MEANT = "a RunningTable holds statistics"


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(shape), torch.rand(shape) + 0.5


def test_one_pair_for_every_step() -> None:
    table = RunningTable(F, S)
    mean, var = drawn(F)
    table.adopt(mean, var)
    for step in (0, 3, 9):
        found = table.read(1, step)
        assert_equal(found[0][0], mean)
        assert_equal(found[1][0], var)
    assert table.count.tolist() == [1_000_000] * S


@pytest.mark.parametrize("steps", [1, 3, S])
def test_a_pair_for_each_step(steps: int) -> None:
    """Statistics of later steps are forgotten, and these steps read the last pair."""
    table = RunningTable(F, S)
    table.update(*drawn(S, F), torch.full((S,), 9))
    mean, var = drawn(steps, F)
    table.adopt(mean, var, count=7)
    assert table.count.tolist() == [7] * steps + [0] * (S - steps)
    assert_equal(table.running_mean[:steps], mean)
    assert not table.running_mean[steps:].any()
    assert table.running_var[steps:].eq(1).all()
    assert table.sources(8).tolist() == [min(t, steps - 1) for t in range(8)]


def test_counts_of_each_step() -> None:
    """A step with a count of 0 has no statistics, whatever its values."""
    table = RunningTable(F, S)
    mean, var = drawn(3, F)
    table.adopt(mean.tolist(), np.asarray(var), count=[5, 0, 2])
    assert table.count.tolist() == [5, 0, 2, 0, 0]
    assert not table.uncounted().any()
    assert_close(table.running_mean[[0, 2]], mean[[0, 2]], VALUES)
    assert table.sources(4).tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("momentum", "count", "weight"),
    [(0.1, None, 0.1), (0.1, 4, 0.5), (0.1, 4000, 0.1), (None, 12, 0.25), (0.9, 4, 0.9)],
)
def test_what_the_count_means_for_later_updates(
    momentum: float | None, count: int | None, weight: float
) -> None:
    """A batch of n rows moves a step by max(momentum, n / (count + n))."""
    table = RunningTable(F, S, momentum)
    mean, var = drawn(F)
    table.adopt(mean, var, count)
    new, spread = drawn(1, F)
    table.update(new, spread, torch.tensor([4]))
    assert_close(table.running_mean[0], mean.lerp(new[0], weight), 1e-6)
    assert_close(table.running_var[0], var.lerp(spread[0] * 4 / 3, weight), 1e-6)
    assert_equal(table.running_mean[1], mean)


def test_of_torchs_norm_into_a_layer() -> None:
    """The table, its report and its state dict agree, in every dtype."""
    theirs = nn.BatchNorm1d(4 * H)
    theirs(torch.randn(20, 4 * H))
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=S), dtype=dtype)
        layer.norm_ih_l0.table.adopt(theirs.running_mean, theirs.running_var, 20)
        assert layer.report().rows["norm_ih_l0.table"] == (20,) * S
        assert layer.report().uncounted == dict.fromkeys(layer.report().rows, 0)
        twin = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=S), dtype=dtype)
        twin.load_state_dict(layer.state_dict())
        x = torch.randn(S + 2, B, I).to(dtype)
        assert_equal(twin.eval()(x)[0], layer.eval()(x)[0])
        assert_close(layer.norm_ih_l0.table.running_mean[2].float(), theirs.running_mean, 1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(F + 1), torch.ones(F + 1)), ValueError, r"mean must be \(3,\)"),
        ((torch.zeros(2, F), torch.ones(3, F)), ValueError, r"var must be .* the same S'"),
        ((torch.zeros(S + 1, F), torch.ones(S + 1, F)), ValueError, "max_steps=6"),
        ((torch.zeros(F), -torch.ones(F)), ValueError, "var must be finite and not negative"),
        ((torch.full((F,), torch.nan), torch.ones(F)), ValueError, "mean must be finite"),
        ((torch.zeros(F), torch.ones(F), -1), ValueError, "count must be .*none negative"),
        ((torch.zeros(F), torch.ones(F), [1, 2]), ValueError, r"count must be .*\(5,\)"),
        ((torch.zeros(F), torch.ones(F), 2.0), TypeError, "whole numbers"),
        ((torch.zeros(F), torch.ones(F), True), TypeError, "whole numbers"),
    ],
)
def test_refusals_leave_the_table(arguments: Any, error: type[Exception], message: str) -> None:
    table = RunningTable(F, S)
    table.update(*drawn(S, F), torch.full((S,), 9))
    before = copy.deepcopy(table.state_dict())
    with pytest.raises(error, match=message):
        table.adopt(*arguments)
    for name, value in before.items():
        assert_equal(table.state_dict()[name], value, name)


def test_cumulative_tables_want_a_count() -> None:
    with pytest.raises(ValueError, match=r"momentum=None .*count="):
        RunningTable(F, S, momentum=None).adopt(*drawn(F))


def by_hand(table: RunningTable) -> None:
    with torch.no_grad():
        table.running_mean.copy_(torch.randn(table.features))
        table.running_var.copy_(torch.rand(table.features))


def assigned(table: RunningTable) -> None:
    table.running_var = torch.rand(table.max_steps, table.features)


def without_count(table: RunningTable) -> None:
    other = RunningTable(table.features, table.max_steps)
    other.update(*drawn(table.max_steps, table.features), torch.full((table.max_steps,), 9))
    state = {name: value for name, value in other.state_dict().items() if name != "count"}
    table.load_state_dict(state, strict=False)


def without_count_assigned(table: RunningTable) -> None:
    state = {"running_mean": torch.randn(table.max_steps, table.features)}
    table.load_state_dict(state, strict=False, assign=True)


def of_inference(table: RunningTable) -> None:
    with torch.inference_mode():
        table.running_mean = torch.randn(table.max_steps, table.features)


WAYS: list[Callable[[RunningTable], None]] = [
    by_hand,
    assigned,
    without_count,
    without_count_assigned,
]


def quiet(call: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


@pytest.mark.parametrize("seen", [0, 2])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_warns_once(kind: str, way: Any, seen: int) -> None:
    """The warning names the user's line, with no or some steps seen, and comes after changes."""
    x = torch.randn(S, B, I)
    layer = LAYERS[kind](I, H, norm=seqnorm.preset("batch", kind, max_steps=S))
    if seen:
        layer(x[:seen])
    layer.eval()
    quiet(lambda: layer(x))
    site = "norm_sum_l0" if hasattr(layer, "norm_sum_l0") else "norm_ih_l0"
    table = getattr(layer, site).table
    way(table)
    left = S - seen
    instead = "last step before with a count" if seen else "those of step 0"
    with pytest.warns(UserWarning, match=rf"{MEANT} of {left} of 5 .*{instead}") as caught:
        layer(x)
    assert [w.filename for w in caught] == [__file__]
    for call in (lambda: layer(x), lambda: layer(x, lengths=[5, 1, 2, 0]), layer.eval):
        quiet(call)
    assert layer.report().uncounted[f"{site}.table"] == left
    assert f"{left} steps hold statistics with a count of 0" in str(layer.report())
    with torch.no_grad():
        table.running_mean.mul_(2.0)
    with pytest.warns(UserWarning, match=MEANT):
        layer(x)
    table.adopt(*drawn(table.features))
    quiet(lambda: layer(x))
    assert not any(layer.report().uncounted.values())


@pytest.mark.parametrize("way", [*WAYS, of_inference])
def test_other_norms_warn(way: Any) -> None:
    cell = seqnorm.GRUCell(I, H, norm=seqnorm.preset("batch", "GRU", max_steps=S)).eval()
    way(cell.norm_hh.table)
    with pytest.warns(UserWarning, match=MEANT):
        cell(torch.randn(B, I), first_step=1)
    quiet(lambda: cell(torch.randn(B, I), first_step=2))
    norm = seqnorm.BatchNorm(F, max_steps=S, layout="NTC").eval()
    way(norm.table)
    with pytest.warns(UserWarning, match=MEANT):
        norm(torch.randn(B, S, F))
    pooled = seqnorm.BatchNorm(F, layout="NTC").eval()
    way(pooled.table)
    with pytest.warns(UserWarning, match="read all the same, but the first batch in training"):
        pooled(torch.randn(B, S, F))


def test_what_is_trained_or_new_is_quiet() -> None:
    """Casts, copies, pickles and state dicts give no warning, in training and in inference."""
    x = torch.randn(7, B, I)
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=S))
    quiet(lambda: layer.eval()(x))
    layer.train()(x, lengths=[7, 3, 1, 1])
    for twin in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.double()):
        quiet(lambda twin=twin: twin.eval()(x.to(twin.weight_ih_l0.dtype)))
    other = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=9))
    other.load_state_dict(layer.float().state_dict())
    quiet(lambda: other.eval()(x))
    seqnorm.reestimate_statistics(layer, [x, x[:2]])
    quiet(lambda: layer.eval()(x))
    by_hand(layer.norm_ih_l0.table)
    quiet(lambda: layer.eval()(x))  # every step has a count
    layer.norm_ih_l0.table.reset()
    quiet(lambda: layer(x))


def test_strict_tables_name_the_way_in() -> None:
    layer = seqnorm.GRU(I, H, norm=seqnorm.preset("batch", "GRU", beyond="error")).eval()
    with pytest.raises(IndexError, match=r"by table\.adopt\(mean, var\)"):
        layer(torch.randn(S, B, I))


@needs_compiler
def test_looking_breaks_no_graph() -> None:
    layer = seqnorm.LSTM(I, H, norm=seqnorm.preset("batch", max_steps=S))
    x = torch.randn(S, B, I)
    layer(x)
    layer.eval()
    by_hand(layer.norm_ih_l0.table)
    layer.norm_ih_l0.table.count.zero_()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    quiet(lambda: compiled(x))
    torch.export.export(layer, (x,))
    with pytest.warns(UserWarning, match=MEANT):
        layer(x)


def test_of_many_tables_at_once() -> None:
    """Tables under vmap or on a meta device have no values to check."""
    norm = seqnorm.BatchNorm(F, max_steps=S, layout="NTC").eval()
    names = [name for name, _ in norm.named_buffers()]
    many = [torch.randn(2, S, F), torch.rand(2, S, F), torch.zeros(2, S, dtype=torch.int64)]

    def one(*buffers: Tensor) -> Any:
        return torch.func.functional_call(norm, dict(zip(names, buffers)), (torch.ones(B, S, F),))

    quiet(lambda: torch.func.vmap(one)(*many))
    quiet(lambda: norm.to("meta")(torch.randn(B, S, F, device="meta")))


@pytest.mark.parametrize("value", ["abc", None, [[1.0], [2.0, 3.0]], object()])
@pytest.mark.parametrize("name", ["mean", "var"])
def test_statistics_that_are_no_numbers(name: str, value: object) -> None:
    table = seqnorm.nn.statistics.RunningTable(2, 3)
    given = {"mean": [0.0, 0.0], "var": [1.0, 1.0]} | {name: value}
    with pytest.raises(TypeError, match=f"{name} must be numbers, got "):
        table.adopt(**given)
    assert not table.count.any()
