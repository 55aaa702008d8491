"""The runs that compare norms on Japanese Vowels: their order and their options."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqnorm.training.results.language_table import next_run
from seqnorm.training.results.rows import append_row, read_rows
from seqnorm.training.results.series_table import CLASSIFICATION, markdown

ROOT = Path(__file__).parent.parent


def load() -> Any:
    spec = importlib.util.spec_from_file_location("series", ROOT / "benchmarks" / "series.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


series = load()


def test_every_run_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    made: list[list[str]] = []

    def run(arguments: list[str]) -> None:
        made.append(arguments)
        if len(made) == 7:
            raise KeyboardInterrupt
        given = dict(zip(arguments[::2], arguments[1::2]))
        norm = given["--model.norm"].replace("null", "none")
        row = dict.fromkeys(CLASSIFICATION, "1") | {"cell": given["--model.cell"], "norm": norm}
        row |= {"lr": given["--model.lr"], "seed": given["--seed_everything"]}
        row["val_loss"] = str(abs(float(row["lr"]) - 0.01))
        append_row(path, {**row, "config": shlex.join(arguments)}, CLASSIFICATION)

    with pytest.raises(KeyboardInterrupt):
        series.make(path, run)
    series.make(path, run)
    assert made[6] == made[7]
    assert len(made) == 4 * (3 + 5) + 1
    series.make(path, run)
    assert len(made) == 33
    assert len(markdown(path).splitlines()) == 2 + 4


def test_the_results_were_made_by_these_commands() -> None:
    rows = read_rows(ROOT / "results" / "series.csv")
    for row in rows:
        path = Path("results/series.csv")
        expected = series.options(row["cell"], row["norm"], float(row["lr"]), row["seed"], path)
        assert shlex.split(row["config"]) == expected
    for cell, norm in series.MODELS:
        assert (
            next_run(series.rows_of(ROOT / "results/series.csv", cell, norm), series.SEEDS) is None
        )


def test_a_run_without_a_row(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"train\.py fit --config configs/series/jap.* no row"):
        series.make(tmp_path / "none.csv", lambda arguments: None)
