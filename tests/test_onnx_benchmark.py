"""The benchmark of ONNX files: equal results of its ways, and the table of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_here
import pytest
import torch
from pages import DOCS, marked, rows

onnx_here.need()

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = DOCS.parent / "results" / "onnx_speed.csv"


def program() -> Any:
    import onnx_speed  # type: ignore[import-not-found]  # a file of a program

    return onnx_speed


def test_the_ways_compute_the_same(tmp_path: Path) -> None:
    with torch.no_grad():
        runs = program().calls(5, tmp_path)(4, 3)
        found = {way: torch.as_tensor(run()) for way, run in runs.items()}
    torch.testing.assert_close(found["onnx"], found["layer"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["onnx_step"], found["layer"][-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["onnx_lstm"], found["torch"], atol=1e-5, rtol=0)


def test_the_page_shows_the_results() -> None:
    table = program().markdown(RESULTS)
    assert [row[:3] for row in rows(table)][-1] == ["1", "512", "16"]
    assert marked(DOCS / "onnx.md", "onnx") == table
