"""The benchmark of one step: equal results of both sides, and the figures of its table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def one_step() -> Iterator[Any]:
    """Import the program, whose files are importable within this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import one_step  # type: ignore[import-not-found]  # a file of a program

        yield one_step
    for name in ("one_step", "processes", "table", "timing"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["layer", "cell"])
@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
def test_one_step_of_ours_and_of_torch(one_step: Any, kind: str, norm: str) -> None:
    """Both return results of the same shapes, from the same input and state."""
    for cell, T in (("LSTM", 1), ("GRU", 3 if kind == "layer" else 1)):
        runs = one_step.calls(one_step.Line(cell, kind, norm, T, 2, 5))
        with torch.inference_mode():
            ours, theirs = ([*_flat(run())] for run in (runs["ours"], runs["torch"]))
        assert [part.shape for part in ours] == [part.shape for part in theirs]


def _flat(results: Any) -> Iterator[Tensor]:
    if isinstance(results, Tensor):
        yield results
        return
    for part in results:
        yield from _flat(part)


def test_the_table_of_one_step(
    one_step: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Medians over processes, of the ratios rather than of the times."""
    line = one_step.Line("GRU", "cell", "layer", 1, 1, 64)
    (found,) = one_step.rows([line], [[(1.0, 2.0)], [(9.0, 3.0)], [(4.0, 4.0)]])
    assert found["ours_us"] == "4.00"
    assert found["torch_us"] == "3.00"
    assert (found["ratio"], found["least"], found["most"]) == ("1.000", "0.500", "3.000")
    path = tmp_path / "steps.csv"
    one_step.main(["--quick", "--processes=2", "--budget=0.0", "--csv", str(path)])
    (header, *rows) = path.read_text().splitlines()
    assert header.split(",") == list(one_step.COLUMNS)
    assert len(rows) == len(list(one_step.lines(quick=True))) == 16
    printed = capsys.readouterr().out
    assert printed.count("ratio") == 16
    assert printed.count("geometric mean") == 4
