"""The runs on CartPole without velocities: curves, missing runs, the table and the picture."""

from __future__ import annotations

import math
from importlib import import_module as module
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import DOCS, marked
from source_tree import ROOT

import seqnorm

pytestmark = pytest.mark.usefixtures("importable_benchmarks")
RESULTS = ROOT / "results" / "cartpole.csv"


def test_the_points_of_a_curve() -> None:
    episodes = [(10, 10.0), (5_000, 20.0), (5_008, 40.0), (15_000, 7.0)]
    found = module("cartpole").points(episodes, 20_000)
    assert found == [(5_000, 15.0, 2), (10_000, 40.0, 1), (15_000, 7.0, 1), (20_000, 7.0, 0)]
    early = module("cartpole").points([(5_008, 40.0)], 10_000)
    assert math.isnan(early[0][1])
    assert early[1] == (10_000, 40.0, 1)


def fill(path: Path, seeds: list[int], made: list[Any], dies: int = -1) -> None:
    """Make the missing runs, whose returns are invented."""

    def run(norm: str | None, encoded: bool, seed: int, steps: int) -> list[tuple[int, float]]:
        made.append((norm, encoded, seed))
        if len(made) == dies:
            raise KeyboardInterrupt
        better = {None: 0.0, "layer": 10.0, "hidden": 20.0}[norm] * (-1.0 if encoded else 1.0)
        return [(end, 100.0 + better + seed * end / steps) for end in range(0, steps + 1, 2_500)]

    module("cartpole").make(path, "sb3", seeds, run, steps=20_000)


def test_every_run_is_made_once(tmp_path: Path) -> None:
    path, made = tmp_path / "cartpole.csv", []
    with pytest.raises(KeyboardInterrupt):
        fill(path, [1, 2], made, dies=6)
    assert len(module("cartpole").read(path)) == 5
    fill(path, [1, 2], made)
    networks = list(module("cartpole").NETWORKS.values())
    right = [(*network, seed) for seed in (1, 2) for network in networks]
    assert len(networks) == 5
    assert made == [*right[:6], *right[5:]]
    fill(path, [1, 2], made)
    assert len(made) == 11
    curves = module("cartpole").read(path)
    assert set(map(len, curves.values())) == {4}


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "cartpole.csv"
    fill(path, [1, 2, 3], [])
    cartpole = module("cartpole")
    lines = cartpole.table(path).splitlines()
    assert len(lines) == 2 + 3 * 2
    assert lines[2].startswith("| LSTM, sb3-contrib: LayerNorm | 3 | whole training | 101 ± ")
    assert lines[2].endswith("| +10 ± 0 |")
    assert lines[4].endswith("| +20 ± 0 |")
    assert lines[7].startswith("| LSTM, sb3-contrib: LayerNorm, encoder | 3 | last fifth | 102 ± ")
    assert lines[7].endswith("| -10 ± 0 |")
    assert cartpole.draw(path, "sb3").stat().st_size > 10_000


def test_an_interval() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    middle, width = module("cartpole").interval(values)
    assert middle == 3.0
    # Student's quantile with 4 degrees of freedom.
    assert width == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3)
    assert math.isnan(module("cartpole").interval([2.0])[1])


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_the_schemes(layer: str) -> None:
    scheme = module("cartpole_runs").scheme
    assert scheme(None, layer) is None
    assert scheme("layer", layer) == seqnorm.preset("layer", layer)
    hidden = scheme("hidden", layer)
    assert hidden.input is None
    assert hidden.hidden == seqnorm.preset("layer", layer).hidden


@pytest.mark.filterwarnings("ignore")  # warnings of the libraries
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(("library", "package"), [("sb3", "sb3_contrib"), ("torchrl", "torchrl")])
def test_a_short_run(library: str, package: str, encoded: bool) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    threads = torch.get_num_threads()
    run = module("cartpole_runs").RUNS[library]
    found = run("hidden", encoded, 1, 1_024)
    assert found == run("hidden", encoded, 1, 1_024), "a seed repeats a run"
    assert found != run("hidden", encoded, 2, 1_024)
    torch.set_num_threads(threads)
    assert len(found) > 10
    assert all(0 < step <= 1_024 and 8 <= value <= 500 for step, value in found)


def test_the_table_of_the_page_is_made_from_the_results() -> None:
    made = module("cartpole").table(RESULTS)
    assert marked(DOCS / "reinforcement_learning.md", "cartpole") == made
