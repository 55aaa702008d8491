"""Several processes with a part of the batch each are one process with the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rank_cases
import ranks
import torch
from rank_cases import CASES, OF_THREE, SPLITS, compute
from tolerances import GRADIENTS, SINGLE, SUMS, VALUES, assert_close, assert_equal

Results = list[dict[str, dict[str, Any]]]


def run(tmp_path_factory: pytest.TempPathFactory, which: str, dtype: torch.dtype) -> Results:
    folder: Path = tmp_path_factory.mktemp(which)
    number = 3 if which == "three" else 2
    return ranks.together(rank_cases.all_cases, number, folder, which, dtype)


@pytest.fixture(scope="module")
def in_double(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory, "two", torch.float64)


@pytest.fixture(scope="module")
def in_single(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory, "two", torch.float32)


@pytest.fixture(scope="module")
def of_three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(tmp_path_factory, "three", torch.float64)


def compare(whole: dict[str, Any], parts: list[dict[str, Any]], split: str, exact: bool) -> None:
    """Parts of a batch against the whole of it."""
    value, gradient = (VALUES, GRADIENTS) if exact else (SINGLE, 10 * SINGLE)
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


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_in_double_precision(in_double: Results, name: str) -> None:
    case, split = CASES[name]
    whole = compute(case, range(rank_cases.N), torch.float64, shared=False)
    compare(whole, [result[name] for result in in_double], split, exact=True)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_in_single_precision(in_single: Results, name: str) -> None:
    case, split = CASES[name]
    whole = compute(case, range(rank_cases.N), torch.float32, shared=False)
    compare(whole, [result[name] for result in in_single], split, exact=False)


@pytest.mark.parametrize("name", OF_THREE)
def test_three_processes_are_one(of_three: Results, name: str) -> None:
    case, split = OF_THREE[name]
    whole = compute(case, range(rank_cases.N), torch.float64, shared=False)
    compare(whole, [result[name] for result in of_three], split, exact=True)
