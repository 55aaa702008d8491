"""The benchmark of resets: equal results of all ways, and the table of the page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import DOCS, marked
from tolerances import SINGLE, assert_close
from torch import nn

import seqnorm

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = DOCS.parent / "results" / "resets.csv"


def program() -> Any:
    import resets  # type: ignore[import-not-found]  # a file of a program

    return resets


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_all_ways_of_torch_compute_what_resets_do(probability: float) -> None:
    found = program()
    lstm, cell = nn.LSTM(4, 5), nn.LSTMCell(4, 5)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in lstm.state_dict().items()})
    ours = seqnorm.LSTM.from_torch(lstm)
    x, resets = torch.randn(9, 3, 4), torch.rand(9, 3) < probability
    right = ours(x, resets=resets)[0].detach()
    assert_close(found.split(lstm, x, resets).detach(), right, SINGLE)
    assert_close(found.masked(cell, x, resets).detach(), right, SINGLE)
    rows = found.segments(lstm, x, resets).detach()
    assert_close(rows.sum(), right.sum(), SINGLE)
    assert_close(rows.square().sum(), right.square().sum(), SINGLE)


def test_a_run_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    path = tmp_path / "resets.csv"
    try:
        program().main(["--budget=0", "--sizes", "6", "2", "3", f"--csv={path}"])
    finally:
        torch.set_num_threads(threads)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 5 + 2
    assert capsys.readouterr().out.count("ratio") == len(rows)
    assert program().markdown(path).count("\n") == 5


def test_peaks_of_memory() -> None:
    """Each way is measured in a process of its own."""
    padded, packed = program().peaks(6, 2, 3)
    assert padded.endswith("ratio 1.00")
    assert "one after another" in packed
    assert " MiB, ratio " in packed


def test_the_page_shows_the_results() -> None:
    assert marked(DOCS / "resets.md", "resets") == program().markdown(RESULTS)
