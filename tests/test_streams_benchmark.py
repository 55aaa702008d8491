"""The benchmark of streams: equal results of its ways, and the table of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pages import DOCS, marked, rows
from tolerances import SINGLE, assert_close

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = DOCS.parent / "results" / "streams.csv"


def program() -> Any:
    import streams  # type: ignore[import-not-found]  # a file of a program

    return streams


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_stream_and_its_layer_compute_the_same(norm: str) -> None:
    runs = program().calls("LSTM", norm, 5)
    with torch.inference_mode():
        runs["stream"]()  # the first step, whose state the layer is given
        assert_close(runs["stream"](), runs["layer"]()[0], SINGLE)
        assert_close(runs["stream_of_model"](), runs["model"](), SINGLE)  # the first steps


def test_a_run_and_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    path = tmp_path / "streams.csv"
    try:
        program().main(["--processes=1", "--budget=0", f"--csv={path}"])
    finally:
        torch.set_num_threads(threads)
    table = program().markdown(path)
    assert table in capsys.readouterr().out
    assert [row[:2] for row in rows(table)][-1] == ["BatchNorm of every step GRU", "256"]
    program().main(["--table", f"--csv={path}"])
    assert capsys.readouterr().out.strip() == table


def test_the_page_shows_the_results() -> None:
    assert marked(DOCS / "streaming.md", "streams") == program().markdown(RESULTS)
