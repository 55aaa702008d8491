"""The table of a study in memory and as a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seqnorm.studies.table import Table, from_text, read, replace, run_id, to_text, write
from seqnorm.studies.tuning import best_rate, choose_rate, tuning_seeds

ROWS = [
    {"run": "a/0", "norm": "batch", "seed": 0, "error": 0.25, "note": None},
    {"run": "a/1", "norm": "batch", "seed": 1, "error": None, "note": 'x, "y"\nz\rw'},
    {"run": "b/0", "norm": "layer", "seed": 0, "error": float("nan"), "note": True},
]


@pytest.mark.parametrize("value", [None, True, False, 0, -7, 0.5, 1e-5, 123456.0, "word", "1/2"])
def test_values_survive_as_text(value: object) -> None:
    assert from_text(to_text(value)) == value  # type: ignore[arg-type]


def test_a_float_has_six_digits() -> None:
    assert to_text(1 / 3) == "0.333333"
    assert math.isnan(from_text(to_text(math.nan)))  # type: ignore[arg-type]
    assert from_text(to_text(math.inf)) == math.inf


def test_a_table_survives_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.csv"
    curves = {("a/0", "loss"): [(0.0, 1.5), (1.0, 0.25)], ("gone", "loss"): [(0.0, 1.0)]}
    write(path, ("norm", "seed", "error", "note"), Table(ROWS, curves))
    table = read(path)
    assert [row["run"] for row in table] == ["a/0", "a/1", "b/0"]
    assert table.rows[0]["error"] == 0.25
    assert table.rows[1]["note"] == 'x, "y"\nz\rw'
    assert table.rows[2]["note"] is True
    assert table.curve(table.rows[0], "loss") == [(0.0, 1.5), (1.0, 0.25)]
    assert table.curve(table.rows[1], "loss") == []
    assert ("gone", "loss") not in table.curves, "curves of no row are dropped"
    before = path.read_bytes()
    write(path, ("norm", "seed", "error", "note"), table)
    assert path.read_bytes() == before


def test_rows_are_chosen() -> None:
    table = Table(ROWS)
    assert len(table.where(norm="batch")) == 2
    assert len(table.where(norm="batch", seed=1)) == 1
    assert table.where(note=None).rows == [ROWS[0]]
    assert table.distinct("norm") == ["batch", "layer"]
    assert table.where(norm="batch").by_seed("error") == {0: 0.25}
    with pytest.raises(ValueError, match="two rows have seed 0"):
        table.by_seed("error")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("run,norm,seed\na,batch,0\nb,batch\n")
    with pytest.raises(ValueError, match="line 3"):
        read(path)


def test_a_run_is_named_by_its_factors() -> None:
    assert run_id({"norm": "batch", "seed": 3}, ("norm", "rate", "seed")) == "batch//3"
    with pytest.raises(ValueError, match="unknown factors"):
        run_id({"nrom": "batch"}, ("norm", "seed"))


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    replace(path, b"old")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def tuned(scores: dict[float, list[float]]) -> Table:
    return Table(
        [
            {"run": f"{rate}/{seed}", "rate": rate, "seed": seed, "score": score}
            for rate, values in scores.items()
            for seed, score in zip(tuning_seeds(2), values)
        ]
    )


def test_the_rate_with_the_best_mean_is_chosen() -> None:
    rates, seeds = [1.0, 0.1], tuning_seeds(2)
    table = tuned({1.0: [0.5, 0.9], 0.1: [0.6, 0.6]})
    assert best_rate(table, rates, seeds, "score") == 1.0
    assert best_rate(table, rates, seeds, "score", largest=False) == 0.1
    assert best_rate(table, [*rates, 0.01], seeds, "score") is None, "a run is missing"
    assert best_rate(tuned({1.0: [0.6, 0.6], 0.1: [0.6, 0.6]}), rates, seeds, "score") == 0.1


def test_a_diverged_run_is_the_worst() -> None:
    rates, seeds = [1.0, 0.1], tuning_seeds(2)
    table = tuned({1.0: [math.nan, 0.9], 0.1: [-5.0, -5.0]})
    assert best_rate(table, rates, seeds, "score") == 0.1
    assert best_rate(table, rates, seeds, "score", largest=False) == 0.1


def test_a_grid_is_extended_while_its_edge_is_the_best() -> None:
    grid, seeds = [0.1, 1.0], tuning_seeds(2)
    done = {0.1: [0.5, 0.5], 1.0: [0.6, 0.6]}
    assert choose_rate(tuned({}), grid, seeds, "score") == ([0.1, 1.0], None)
    assert choose_rate(tuned(done), grid, seeds, "score") == ([0.1, 1.0, 10.0], None)
    inside = tuned(done | {10.0: [0.5, 0.5]})
    assert choose_rate(inside, grid, seeds, "score") == ([0.1, 1.0, 10.0], 1.0)
    rising = tuned(done | {10.0: [0.7, 0.7], 100.0: [0.8, 0.8]})
    assert choose_rate(rising, grid, seeds, "score") == ([0.1, 1.0, 10.0, 100.0], 100.0)
    falling = tuned({0.1: [0.7, 0.7], 1.0: [0.6, 0.6], 0.01: [0.5, 0.5]})
    assert choose_rate(falling, grid, seeds, "score") == ([0.01, 0.1, 1.0], 0.1)
    assert choose_rate(tuned({}), [0.3], seeds, "score") == ([], 0.3)
