"""Several processes with parts of a batch equal one process with the whole batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import rank_cases
import rank_checks
import ranks
import torch
from rank_cases import CASES, OF_THREE, SPLITS, compute
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal
from torch import nn

import seqnorm
from seqnorm.nn.statistics.moments import moments

Results = list[dict[Any, dict[str, Any]]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return ranks.together(rank_checks.everything, 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return ranks.together(rank_cases.of_three, 3, tmp_path_factory.mktemp("three"))


def compare(whole: dict[str, Any], parts: list[dict[str, Any]], split: str, exact: bool) -> None:
    """Compare parts of a batch with the whole batch."""
    value, gradient = (VALUES, GRADIENTS) if exact else (5 * SINGLE, 20 * SINGLE)
    for part, chosen in zip(parts, SPLITS[split]):
        for name, found in part["found"].items():
            expected = whole["found"][name][chosen]
            if found.shape != expected.shape:  # padded to its own longest
                expected = expected[:, : found.shape[1]]
            assert_close(found, expected, gradient if name == "x" else value, name)
    for name, expected in whole["grads"].items():
        total = torch.stack([part["grads"][name] for part in parts]).sum(0)
        assert_close(total, expected, gradient, name)
    for name, expected in whole["buffers"].items():
        for part in parts:
            assert_equal(part["buffers"][name], parts[0]["buffers"][name], f"{name} of all ranks")
        tolerance = value if expected.is_floating_point() else 0.0
        assert_close(parts[0]["buffers"][name], expected, tolerance, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one(two: Results, name: str, dtype: torch.dtype) -> None:
    case, split = CASES[name]
    whole = compute(case, range(rank_cases.N), dtype, shared=False)
    found = [result[name, dtype] for result in two]
    compare(whole, found, split, exact=dtype == torch.float64)


@pytest.mark.parametrize("name", OF_THREE)
def test_three_processes_are_one(three: Results, name: str) -> None:
    case, split = OF_THREE[name]
    whole = compute(case, range(rank_cases.N), torch.float64, shared=False)
    compare(whole, [result[name] for result in three], split, exact=True)


def test_the_cases_see_a_difference() -> None:
    """Without exchange, the halves differ from the whole batch."""
    case, split = CASES["lstm"]
    whole = compute(case, range(rank_cases.N), torch.float64, shared=False)
    apart = [compute(case, chosen, torch.float64, shared=False) for chosen in SPLITS[split]]
    with pytest.raises(AssertionError, match="output: "):
        compare(whole, apart, split, exact=True)


def test_data_parallel_training_is_that_of_one_process(two: Results) -> None:
    expected = rank_checks.train(rank_checks.Tagger(), 0, 1)
    for name, value in expected.items():
        first, second = (answer["data_parallel"][name] for answer in two)
        assert_equal(first, second, name)
        assert_close(first, value, GRADIENTS if value.is_floating_point() else 0.0, name)


@pytest.mark.parametrize("rank", [0, 1])
def test_without_it_or_in_a_group_of_one_statistics_are_ones_own(two: Results, rank: int) -> None:
    expected = rank_checks.train(rank_checks.Tagger(), rank)
    found = [*two[rank]["local"].values(), two[rank]["group_of_one"]]
    assert len(found) == 3
    for state in found:
        for name, value in expected.items():
            assert_close(state[name], value, GRADIENTS, name)
    assert not torch.equal(
        expected["norm.table.running_mean"],
        rank_checks.train(rank_checks.Tagger(), 1 - rank)["norm.table.running_mean"],
    )


def test_the_union_and_its_derivatives(two: Results) -> None:
    x = rank_cases.drawn(5, 3, seed=5, dtype=torch.float64).requires_grad_()
    mean, var, _ = moments(x, (0,))
    # The sum of both losses, which are equal.
    loss = 2 * (mean.sin() * var.cos()).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sin().sum(), x)
    found = [answer["merged"] for answer in two]
    for part in found:
        assert_close(part["mean"], mean.detach(), SUMS, "mean")
        assert_close(part["var"], var.detach(), SUMS, "var")
        assert part["n"].tolist() == [[5.0]]
    assert_close(torch.cat([part["first"] for part in found]), first.detach(), VALUES, "first")
    assert_close(torch.cat([part["second"] for part in found]), second, VALUES, "second")


def test_a_constant_is_its_own_mean(two: Results) -> None:
    for answer in two:
        assert_equal(answer["constant"]["mean"], torch.full((1, 2), 1.1e6))
        assert_equal(answer["constant"]["var"], torch.zeros(1, 2))


def test_one_value_in_all_processes_is_refused_in_each(two: Results) -> None:
    for rank, answer in enumerate(two):
        assert "Expected more than 1 value per channel" in answer["one_value"]["error"]
        side = torch.full((1, 3, 1, 1), 2.0 * rank - 1.0)
        assert_close(answer["one_value"]["y"], side, 1e-4, "two values are a set")


def test_rows_of_all_processes_count(two: Results) -> None:
    for answer in two:
        enough, too_few = answer["scarce"]["warnings"]
        assert enough == []
        assert len(too_few) == 3
        assert all("on 1 row(s), min_count=2" in message for message in too_few)
        assert answer["watched"]["rows"] == [[6, 2, 1]]


def test_compiled_kernels_leave_it_to_the_time_loop(two: Results) -> None:
    for answer in two:
        assert "here several share theirs" in answer["backends"]["error"]
    assert two[0]["backends"]["inference"].shape == (4, 3, 3)


def test_different_groups_in_one_layer_are_refused(two: Results) -> None:
    for answer in two:
        assert "convert the layer as a whole" in answer["mixed"]["error"]


@pytest.mark.parametrize("estimate", ["population", "average"])
def test_statistics_are_estimated_from_the_batches_of_all(two: Results, estimate: str) -> None:
    norm = seqnorm.BatchNorm1d(rank_cases.C).double()
    model = nn.ModuleDict({"tagger": rank_checks.Tagger(), "norm": norm})
    seqnorm.reestimate_statistics(
        model, [0, 1], lambda m, k: rank_checks.look(m, k, 0, 1), estimate=estimate
    )
    for name, value in model.named_buffers():
        first, second = (answer["reestimated"][estimate][name] for answer in two)
        assert_equal(first, second, name)
        assert_close(first, value, VALUES if value.is_floating_point() else 0.0, name)


def test_sequences_without_a_step(two: Results) -> None:
    for rank, answer in enumerate(two):
        assert answer["no_steps"]["shape"] == [2 + rank, 0, 3]
        assert not answer["no_steps"]["count"].any()


def test_a_process_that_stays_away_is_an_error_and_no_hang(two: Results) -> None:
    assert "imed out" in two[0]["stays_away"]["error"]


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3, momentum=None),
        nn.ModuleDict({"ours": seqnorm.BatchNorm2d(4), "lstm": seqnorm.LSTM(4, 5, norm="batch")}),
        nn.SyncBatchNorm(4),
        nn.LayerNorm(4),
    )


def test_torchs_norms_become_ours_with_what_they_hold() -> None:
    model = norms()
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    sync, ours = model[3], model[2]["ours"]
    assert seqnorm.convert_sync_batchnorm(model) is model
    assert type(model[1]) is seqnorm.BatchNorm2d
    assert (model[1].eps, model[1].momentum) == (1e-3, None)
    assert model[3] is sync
    assert model[2]["ours"] is ours
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert list(before) == list(after)
    assert all(before[name] is value for name, value in after.items())


def test_a_norm_by_itself() -> None:
    norm = nn.BatchNorm1d(4).eval()
    found = seqnorm.convert_sync_batchnorm(norm)
    assert type(found) is seqnorm.BatchNorm1d
    assert not found.training
    assert found.weight is norm.weight


def test_a_norm_with_a_forward_of_its_own_is_refused() -> None:
    class Scaled(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    with pytest.raises(ValueError, match=r"^0 is a Scaled, which has a forward of its own"):
        seqnorm.convert_sync_batchnorm(nn.Sequential(Scaled(3)))
    with pytest.raises(ValueError, match="does not know its channels yet"):
        seqnorm.convert_sync_batchnorm(nn.Sequential(nn.LazyBatchNorm2d()))


def test_alone_it_changes_nothing() -> None:
    expected = rank_checks.train(rank_checks.Tagger(), 0)
    model = copy.deepcopy(seqnorm.convert_sync_batchnorm(rank_checks.Tagger()))
    for name, value in rank_checks.train(model, 0).items():
        assert_equal(value, expected[name], name)
    x, lengths = rank_checks.sequences(0)
    with (
        seqnorm.use_backend("cpu")
        if "active" in seqnorm.available_backends()["cpu"]
        else seqnorm.use_backend("reference")
    ):
        model.lstm(x, lengths=lengths)


def test_it_is_said_of_which_mini_batch_a_set_is() -> None:
    said = "The mini-batch is that of all processes."
    layers = [
        seqnorm.BatchNorm2d(3),
        seqnorm.BatchNorm(3, layout="NTC"),
        seqnorm.BatchNorm(3, max_steps=4, layout="NTC"),
    ]
    for layer in [*layers, seqnorm.LSTM(3, 4, norm="batch").norm_hh_l0]:
        assert said not in str(seqnorm.statistics_set(layer))
        seqnorm.convert_sync_batchnorm(layer)
        assert said in str(seqnorm.statistics_set(layer))
        seqnorm.revert_sync_batchnorm(layer)
        assert said not in str(seqnorm.statistics_set(layer))


def test_torchs_own_conversion() -> None:
    """It replaces modules derived from its classes, and no table, as the docstrings say."""
    layers = [seqnorm.BatchNorm2d(3), seqnorm.LSTM(2, 3, norm="batch")]
    model: Any = nn.SyncBatchNorm.convert_sync_batchnorm(nn.ModuleList(layers))
    assert type(model[0]) is nn.SyncBatchNorm
    assert model[1] is layers[1]
    tables = [m for m in model[1].modules() if isinstance(m, seqnorm.nn.statistics.RunningTable)]
    assert len(tables) == 3
    assert not any(isinstance(table, nn.modules.batchnorm._BatchNorm) for table in tables)
    for documented in (seqnorm.BatchNorm2d, seqnorm.convert_sync_batchnorm):
        assert "torch.nn.SyncBatchNorm" in (documented.__doc__ or "")
