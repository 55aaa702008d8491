"""The benchmark of trained models in ONNX files: its rows, and the tables of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_here
import pytest
import torch
from pages import DOCS, marked
from small_runs import SMALL

onnx_here.need()

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = DOCS.parent / "results" / "onnx_models.csv"


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def program() -> Any:
    import onnx_models  # type: ignore[import-not-found]  # a file of a program

    return onnx_models


def test_a_classifier_and_a_language_model(
    corpus: Path,
    lines: Path,
    run_seqnorm: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "models.csv"
    for data, task in ((corpus, "classification"), (lines, "language")):
        short = ("--trainer.max_epochs=1", f"--data.corpus={data}", f"--task={task}")
        run_seqnorm("fit", *SMALL, *short)
        checkpoint = tmp_path / "runs" / data.name / "version_0" / "checkpoints" / "best.ckpt"
        program().main([f"--ckpt_path={checkpoint}", "--rounds=1", f"--csv={path}"])
    rows = program().table.read(path)
    labels, scores = rows[:3], rows[3:]
    assert [row["way"] for row in rows] == [*list(program().NAMES)[:3], *program().NAMES]
    assert labels[0]["same"] == labels[1]["same"] == "1.00000"
    assert labels[0]["score"] == labels[1]["score"]
    assert {row["texts"] for row in labels} == {"30"}
    exact = float(scores[0]["score"])
    for row in scores:
        assert float(row["score"]) == pytest.approx(
            exact, rel=0.02 if "int8" in row["way"] else 1e-4
        )
    assert int(rows[2]["bytes"]) < int(rows[1]["bytes"])
    table = program().markdown(path)
    assert capsys.readouterr().out.strip().endswith(table)
    assert table.count("ONNX, 8 bits") == 2
    program().main(["--table", f"--csv={path}"])
    assert capsys.readouterr().out.strip() == table


def test_the_page_shows_the_results() -> None:
    assert marked(DOCS / "onnx.md", "onnx_models") == program().markdown(RESULTS)
