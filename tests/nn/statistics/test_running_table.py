"""RunningTable compared with a Python dictionary of steps, and the tables of a layer.

Axes: S = max_steps, T steps of a batch, B rows, F features, I = input size, H = hidden size.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import oracle_moments
import pytest
import torch
from beside_reference import needs_kernels
from comparing import uncounted_is_meant
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import BATCHED, F, H, I, S, batch_of, feed, table_of
from tolerances import SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import Tensor

import seqnorm
from seqnorm.nn.statistics import RunningTable


def f64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def naive(rows: Tensor) -> tuple[list[float], list[float]]:
    """Return means and unbiased variances of the columns."""
    n = len(rows)
    pairs = [oracle_moments.mean_and_variance(column) for column in rows.T.tolist()]
    return [mean for mean, _ in pairs], [var * n / (n - 1) for _, var in pairs]


class Plain:
    """The update rule of the docstring, feature by feature."""

    def __init__(self, momentum: float | None, min_count: int) -> None:
        self.momentum, self.min_count = momentum, min_count
        self.mean = [[0.0] * F for _ in range(S)]
        self.var = [[1.0] * F for _ in range(S)]
        self.count = [0] * S

    def feed(self, batch: list[Tensor], first: int) -> None:
        for step, rows in enumerate(batch, first):
            n = len(rows)
            if step >= S or n < self.min_count:
                continue
            self.count[step] += n
            weight = n / self.count[step]
            if self.momentum is not None:
                weight = max(self.momentum, weight)
            for f, (mean, var) in enumerate(zip(*naive(rows))):
                self.mean[step][f] += weight * (mean - self.mean[step][f])
                self.var[step][f] += weight * (var - self.var[step][f])


def assert_same(table: RunningTable, plain: Plain) -> None:
    assert table.count.tolist() == plain.count
    assert_close(table.running_mean, f64(plain.mean), VALUES, "mean")
    assert_close(table.running_var, f64(plain.var), VALUES, "var")


def test_before_any_training() -> None:
    table = table_of()
    assert {name: tuple(b.shape) for name, b in table.named_buffers()} == {
        "running_mean": (S, F),
        "running_var": (S, F),
        "count": (S,),
    }
    assert table.count.dtype == torch.int64
    mean, var = table.read(S + 2)
    assert_equal(mean, torch.zeros(S + 2, F).double())
    assert_equal(var, torch.ones(S + 2, F).double())


@pytest.mark.parametrize("min_count", [2, 4])
@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, None])
def test_update_rule(momentum: float | None, min_count: int) -> None:
    """Steps past the table and steps with few rows change nothing."""
    table = table_of(momentum=momentum, min_count=min_count)
    plain = Plain(momentum, min_count)
    calls = [
        ([4, 3, 2, 1], 0),
        ([9, 9, 4, 4, 3, 2, 2, 0], 0),
        ([2, 2], 3),
        ([5, 5, 5], 4),
        ([6], 7),
        ([3, 1, 1], 0),
        *[([8, 8, 8, 8, 8], 0)] * 12,
    ]
    for rows, first in calls:
        batch = batch_of(rows)
        feed(table, batch, first)
        plain.feed(batch, first)
        assert_same(table, plain)


def test_a_cumulative_average_at_first() -> None:
    """The statistics of a step seen three times average these three, without the initial (0, 1)."""
    table = table_of(momentum=0.1)
    batches = [batch_of([4]) for _ in range(3)]
    for batch in batches:
        feed(table, batch)
    means, variances = zip(*(naive(batch[0]) for batch in batches))
    assert_close(table.running_mean[0], f64(means).mean(0), VALUES)
    assert_close(table.running_var[0], f64(variances).mean(0), VALUES)


def test_an_exponential_average_after() -> None:
    table = table_of(momentum=0.25)
    for _ in range(20):
        feed(table, batch_of([4]))
    before = table.running_mean[0].clone()
    batch = batch_of([4])
    feed(table, batch)
    wanted = 0.75 * before + 0.25 * f64(naive(batch[0])[0])
    assert_close(table.running_mean[0], wanted, VALUES)


def test_as_batch_norm_of_torch() -> None:
    """With momentum 1 the numbers equal those of BatchNorm1d."""
    table = table_of(momentum=1.0)
    reference = torch.nn.BatchNorm1d(F, momentum=1.0).double()
    for n in (5, 3):
        (rows,) = batch_of([n])
        reference(rows)
        feed(table, [rows])
        assert_close(table.running_mean[0], reference.running_mean, VALUES)
        assert_close(table.running_var[0], reference.running_var, VALUES)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    seen=st.lists(st.booleans(), min_size=1, max_size=6),
    first=st.integers(0, 8),
    steps=st.integers(1, 8),
)
def test_sources(seen: list[bool], first: int, steps: int) -> None:
    """The source is the last step seen up to the wanted one, or the first row without any."""
    table = RunningTable(F, len(seen))
    table.count[:] = torch.tensor([7 if is_seen else 0 for is_seen in seen])
    wanted = []
    for step in range(first, first + steps):
        upto = [earlier for earlier in range(len(seen)) if earlier <= step and seen[earlier]]
        wanted.append(upto[-1] if upto else 0)
    assert table.sources(steps, first).tolist() == wanted
    table.running_mean.normal_()
    table.running_var.uniform_()
    uncounted_is_meant()
    mean, var = table.read(steps, first)
    assert_equal(mean, table.running_mean[wanted])
    assert_equal(var, table.running_var[wanted])

    strict = RunningTable(F, len(seen), beyond="error")
    strict.count.copy_(table.count)
    missing = [s for s in range(first, first + steps) if s >= len(seen) or not seen[s]]
    if missing:
        with pytest.raises(IndexError, match=f"^step {missing[0]} has no statistics of its own"):
            strict.read(steps, first)
    else:
        assert strict.sources(steps, first).tolist() == wanted
    outside = [s for s in range(first, first + steps) if s >= len(seen)]
    if outside:
        with pytest.raises(IndexError, match=f"^step {outside[0]} has no statistics of its own"):
            strict.read(steps, first, training=True)
    else:
        assert strict.sources(steps, first, training=True).tolist() == wanted


def test_what_was_read_does_not_change() -> None:
    table = table_of()
    feed(table, batch_of([4, 4]))
    mean, var = table.read(2)
    before = mean.clone(), var.clone()
    feed(table, batch_of([4, 4]))
    assert_equal(mean, before[0])
    assert_equal(var, before[1])
    assert (table.running_mean[:2] - mean).abs().min() > 0


def test_reset() -> None:
    table = table_of()
    feed(table, batch_of([4, 4]))
    table.reset()
    for name, value in table_of().named_buffers():
        assert_equal(getattr(table, name), value, name)


def test_population_is_the_moments_of_all_rows() -> None:
    table = table_of(momentum=0.9)
    feed(table, batch_of([50, 50, 50, 50, 50]))
    sizes = [[4, 3, 2, 1, 0, 5], [9, 2, 2, 2, 1, 1], [2, 2, 0, 1, 7, 1], [30, 1, 1, 1, 2, 2]]
    batches = [batch_of(rows) for rows in sizes]
    with table.estimating("population"):
        for batch in batches:
            feed(table, batch)
    for step in range(S):
        rows = torch.cat([batch[step] for batch in batches if len(batch[step]) >= 2])
        mean, var = naive(rows)
        assert int(table.count[step]) == len(rows)
        assert_close(table.running_mean[step], f64(mean), VALUES)
        assert_close(table.running_var[step], f64(var), VALUES)


def test_average_weighs_batches_by_their_rows() -> None:
    table = table_of(momentum=0.9)
    feed(table, batch_of([50]))
    batches = [batch_of([n]) for n in (4, 9, 2, 1, 30)]
    with table.estimating("average"):
        for batch in batches:
            feed(table, batch)
    means, variances, total = torch.zeros(F).double(), torch.zeros(F).double(), 0
    for (rows,) in batches:
        if len(rows) < 2:
            continue
        mean, var = naive(rows)
        means += len(rows) * f64(mean)
        variances += len(rows) * f64(var)
        total += len(rows)
    assert int(table.count[0]) == total
    assert_close(table.running_mean[0], means / total, VALUES)
    assert_close(table.running_var[0], variances / total, VALUES)


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_after_an_estimate_training_goes_on(estimate: str) -> None:
    table = table_of(momentum=0.5)
    with table.estimating(estimate):
        feed(table, batch_of([40]))
    with contextlib.suppress(KeyError), table.estimating(estimate):
        feed(table, batch_of([7]))
        raise KeyError("an estimate that stops half way changes nothing")
    before = table.running_mean[0].clone()
    batch = batch_of([4])
    feed(table, batch)
    wanted = (before + f64(naive(batch[0])[0])) / 2
    assert_close(table.running_mean[0], wanted, VALUES)


def test_single_precision_statistics() -> None:
    """Sums of float32 rows have the precision of float32, also far from 0."""
    table = RunningTable(F, 1, momentum=None)
    rows = 50.0 + torch.randn(4096, F)
    with table.estimating("population"):
        for part in rows.split(256):
            feed(table, [part])
    mean, var = naive(rows.double())
    assert_close(table.running_mean[0], torch.tensor(mean), SINGLE)
    assert_close(table.running_var[0], torch.tensor(var), SINGLE)


def test_steps_beyond_the_table_change_nothing() -> None:
    """A long training sequence updates the table as its first steps alone."""
    norm = seqnorm.preset("batch", "LSTM", max_steps=3)
    short = seqnorm.LSTM(I, H, norm=norm, dtype=torch.float64)
    long = copy.deepcopy(short)
    for _ in range(2):
        input = torch.randn(8, 4, I).double()
        short(input[:3])
        long(input)
    for (key, actual), expected in zip(long.named_buffers(), short.buffers()):
        assert_equal(actual, expected, key)
    assert long.norm_hh_l0.table.count.tolist() == [8, 8, 8]


@pytest.mark.parametrize(("name", "cell"), BATCHED)
def test_inference_changes_nothing(name: str, cell: str) -> None:
    layer = getattr(seqnorm, cell)(I, H, norm=name)
    layer(torch.randn(3, 4, I))
    before = {key: value.clone() for key, value in layer.named_buffers()}
    layer.eval()(torch.randn(5, 4, I))
    for key, value in layer.named_buffers():
        assert_equal(value, before[key], key)


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_estimates_within_a_layer(estimate: str) -> None:
    """The rows of the hidden term of step 0 are those of W_hh h_0, known without the loop."""
    layer = seqnorm.LSTM(I, H, norm="batch", dtype=torch.float64)
    table = layer.norm_hh_l0.table
    layer(torch.randn(3, 8, I).double())
    rows = [torch.randn(n, H).double() for n in (6, 3, 9)]
    with table.estimating(estimate), torch.no_grad():
        for h in rows:
            layer(torch.randn(3, len(h), I).double(), (h[None], torch.zeros_like(h)[None]))
    terms = [h @ layer.weight_hh_l0.detach().T for h in rows]
    n = f64([6.0, 3.0, 9.0])[:, None] / 18
    if estimate == "population":
        mean, var = torch.cat(terms).mean(0), torch.cat(terms).var(0)
    else:
        mean = (n * torch.stack([term.mean(0) for term in terms])).sum(0)
        var = (n * torch.stack([term.var(0) for term in terms])).sum(0)
    assert_close(table.running_mean[0], mean, VALUES)
    assert_close(table.running_var[0], var, VALUES)
    assert table.count[:4].tolist() == [18, 18, 18, 0]
    assert (table.running_mean[1] - table.running_mean[0]).abs().max() > SUMS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beyond": "lst"}, "did you mean 'last'"),
        ({"momentum": 0.0}, r"\(0, 1\]"),
        ({"momentum": 1.5}, r"\(0, 1\]"),
        ({"max_steps": 0}, "max_steps must be greater than zero, got 0"),
        ({"min_count": 1}, "at least 2"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_of(**options)


def test_an_unknown_estimate() -> None:
    table = table_of()
    with pytest.raises(ValueError, match="population"), table.estimating("pooled"):
        pass


@pytest.mark.parametrize("lengths", [[4, 4, 2, 1], [3], [5, 1]])
@pytest.mark.parametrize("where", [pytest.param("cpu", marks=needs_kernels), "reference"])
def test_hooks_are_told_of_every_pass_in_training(lengths: list[int], where: str) -> None:
    """Hooks get all rows of all steps, also past the table or with too few rows."""
    torch.manual_seed(0)
    scheme = seqnorm.preset("batch", "LSTM", max_steps=3)
    layer = seqnorm.LSTM(I, H, norm=scheme, batch_first=True)
    table = layer.norm_hh_l0.table
    told: list[tuple[Any, ...]] = []

    def hook(*found: Any) -> None:
        told.append((*found, table.count.clone()))

    handle = table.register_update_hook(hook)
    x = torch.randn(len(lengths), max(lengths), I)
    with contextlib.ExitStack() as stack:
        stack.enter_context(seqnorm.use_backend(where))
        if len(lengths) == 1:
            stack.enter_context(pytest.warns(UserWarning, match="in training on 1 row"))
        layer(x, lengths=lengths)
        layer.eval()(x, lengths=lengths)
        handle.remove()
        layer(x, lengths=lengths)
    ((source, mean, var, rows, first, count),) = told
    assert source is table
    alive = [sum(length > step for length in lengths) for step in range(max(lengths))]
    assert rows.tolist() == alive
    assert first == 0
    own = sum(n >= 2 for n in alive[:3])
    assert mean.shape == var.shape == (own, 4 * H)
    assert count.tolist() == [0, 0, 0]
