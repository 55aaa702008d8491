"""The page on C: its programs are compiled and run, and its figures are those of the results."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import c_models
import pytest
import torch
from pages import DOCS, blocks, marked

import seqnorm
import seqnorm.export

PAGE = DOCS / "c.md"
RESULTS = DOCS.parent / "results" / "c_library.csv"


@pytest.fixture
def benchmark(importable_benchmarks: None) -> Any:
    import c_library  # type: ignore[import-not-found]  # a file of a program

    return c_library


@c_models.needs("gcc")
def test_the_programs_run(tmp_path: Path) -> None:
    """The layers of the page are written, and the programs compute their outputs."""
    code = "\n".join(blocks(PAGE, "python"))
    code += "\ntorch.save([layer.state_dict(), large.state_dict()], 'weights.pt')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    stream, two = blocks(PAGE, "c")
    (tmp_path / "denoiser.c").write_text(stream)
    (tmp_path / "two.c").write_text(two)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    layer, large = seqnorm.GRU(32, 24, 2, norm="layer"), seqnorm.LSTM(64, 128, norm="layer")
    for module, state in zip((layer, large), weights):
        module.load_state_dict(state)

    x = torch.randn(20, 32)
    (tmp_path / "input.raw").write_bytes(c_models.as_bytes(x))
    (commands,) = blocks(PAGE, "sh")
    compiling, _ = commands.splitlines()
    compiler, *rest = shlex.split(compiling)
    subprocess.run([compiler, *c_models.C99, *rest], cwd=tmp_path, check=True)
    subprocess.run(commands, cwd=tmp_path, check=True, shell=True)
    found = torch.frombuffer(
        bytearray((tmp_path / "output.raw").read_bytes()), dtype=torch.float32
    ).view(20, 24)
    with torch.no_grad():
        torch.testing.assert_close(found, layer(x)[0])

    program = c_models.compiled(tmp_path / "two.c", *c_models.C99, "-O1")
    done = subprocess.run([program], cwd=tmp_path, check=True, capture_output=True, text=True)
    x = torch.zeros(1, 2, 64)
    x[0, :, 0] = torch.tensor([1.0, 2.0])
    expected = large(x)[0][0, :, 0].tolist()
    assert [float(word) for word in done.stdout.split()] == pytest.approx(expected, abs=2e-6)


def test_the_tables_are_made_from_the_results(benchmark: Any) -> None:
    times, sizes = benchmark.tables(RESULTS)
    assert marked(PAGE, "c_library") == times
    assert marked(PAGE, "sizes") == sizes


@c_models.needs("gcc", "size")
def test_the_benchmark(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of small sizes, and the median of several processes."""
    monkeypatch.setattr(benchmark, "LINES", [("GRU", 8)])
    found = benchmark.measured("GRU", 8, 0.0)
    assert found["difference"] < 1e-5 > found["layer_difference"]
    assert found["weight_bytes"] == 4 * (4 + 2 * 24 * 8 + 4 * 24)
    assert found["memory_bytes"] == 4 * (8 + 2 * 24)
    later = {**found, "c_us": found["c_us"] + 9.0}
    (row,) = benchmark.rows([[later], [found], [later]])
    assert row["c_us"] == f"{later['c_us']:.2f}"
    path = tmp_path / "c.csv"
    with benchmark.table.table(path, benchmark.COLUMNS) as write:
        write({**row, **benchmark.table.environment(0.0), "compiler": "gcc 1"})
    times, sizes = benchmark.tables(path)
    assert "GRU, H = 8" in times
    assert sizes.count("KiB") == 3
