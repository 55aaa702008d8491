"""The benchmark of int8: its lines, and the table of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pages import DOCS, marked
from source_tree import ROOT

pytestmark = pytest.mark.usefixtures("importable_benchmarks")


def program() -> Any:
    import int8  # type: ignore[import-not-found]  # a file of a program

    return int8


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "int8.csv"
    threads = torch.get_num_threads()
    try:
        program().main(["--budget=0", "--sizes", "8", f"--csv={path}"])
    finally:
        torch.set_num_threads(threads)
    rows = program().table.read(path)
    assert len(rows) == 2 * 4
    assert capsys.readouterr().out.count(" us, int8 ") == len(rows)


def test_the_table_of_the_page_is_made_from_the_results() -> None:
    assert marked(DOCS / "quantisation.md", "int8") == program().markdown(
        ROOT / "results" / "int8.csv"
    )
