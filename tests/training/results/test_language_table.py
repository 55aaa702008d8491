"""The table of language models, whose rates are chosen in validation by the runs of seed 0."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from seqnorm.training.results.language_table import COLUMNS, best_rate, markdown, next_rate, setting
from seqnorm.training.results.rows import append_row

ROOT = Path(__file__).parents[3]


def write(path: Path, **values: object) -> None:
    row = dict.fromkeys(COLUMNS, "")
    row |= {"corpus": "mr", "mode": "stream", "level": "character", "cell": "lstm"}
    append_row(path, {**row, **values}, COLUMNS)


def runs(path: Path, config: str = "") -> None:
    # The best in validation is the worst in the test, and is chosen.
    for lr, loss, bits in (
        (0.003, 1.6, 2.0),
        (0.01, 1.5, 2.0),
        (0.03, 1.45, 2.0),
        (0.1, 1.4, 3.0),
        (0.3, "nan", 9.0),
    ):
        write(
            path,
            norm="layer",
            lr=lr,
            seed=0,
            val_loss=loss,
            test_perplexity=9,
            test_bits_per_character=bits,
            config=f"{config} --model.lr {lr} --seed_everything=0",
        )
    for lr, seed, perplexity, bits in ((0.1, 1, 4, 2.1), (0.1, 2, 4, 2.3), (0.01, 1, 1, 1)):
        write(
            path,
            norm="layer",
            lr=lr,
            seed=seed,
            test_perplexity=perplexity,
            test_bits_per_character=bits,
            config=f"{config} --model.lr={lr} --seed_everything {seed} --run.results a.csv",
        )


def test_table(tmp_path: Path) -> None:
    runs(tmp_path / "a.csv")
    head, _, row = markdown(tmp_path / "a.csv").splitlines()
    assert head.startswith("| corpus | mode | level | cell | norm | lr | test perplexity | bits")
    assert row == (
        "| mr | stream | character | lstm | layer | 0.1 | 4.0000 ± 0.0000 | 2.2000 ± 0.1414 | 2 |"
    )
    printed = subprocess.run(
        [sys.executable, "-m", "seqnorm.training.results.language_table", tmp_path / "a.csv"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert printed.stdout.strip() == markdown(tmp_path / "a.csv")


def test_runs_of_other_options_stand_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for options in ("--config a.yaml", "--config a.yaml --trainer.max_epochs=9"):
        runs(path, options)
    head, _, *rows = markdown(path).splitlines()
    assert head.endswith("| runs | options |")
    assert [row.split(" | ")[-2:] for row in rows] == [
        ["2", "--config a.yaml |"],
        ["2", "--config a.yaml --trainer.max_epochs 9 |"],
    ]
    write(path, norm="layer", seed=1, lr=0.1, config="--model.hidden_size 9")
    with pytest.raises(ValueError, match=r"^mr stream .* layer --model\.hidden_size 9: no run"):
        markdown(path)


def test_settings() -> None:
    command = "--config=a --config 'b c' --model.lr 1 --model.norm=null --x --run.results r.csv -1"
    assert setting(command) == ("--config a", "--config 'b c'", "--model.norm null", "--x")


def test_runs_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, norm="none", lr=0.01, seed=1)
    for lr, loss in ((0.003, 3.0), (0.01, 2.0), (0.03, 1.0), (0.1, 1.5)):
        with pytest.raises(ValueError, match=f"lstm none: no run with seed 0 tries lr {lr}$"):
            markdown(path)
        write(path, norm="none", lr=lr, seed=0, val_loss=loss)
    with pytest.raises(ValueError, match=r"no run with another seed than 0 at lr 0\.03$"):
        markdown(path)


def test_rates() -> None:
    losses: dict[float, float] = {}
    tried = []
    while (rate := next_rate(losses)) is not None:
        tried.append(rate)
        losses[rate] = abs(rate - 0.1)
    assert tried == [0.003, 0.01, 0.03, 0.1, 0.3]
    assert best_rate(losses) == 0.1
    assert best_rate({0.003: 2.0, 0.01: math.nan}) == 0.003
    assert next_rate(dict.fromkeys((0.003, 0.01, 0.03), 1.0)) is None
    highest = {0.003: 9.0, 0.01: 8.0, 0.03: 7.0, 0.1: 6.0, 0.3: 5.0, 1.0: 4.0}
    assert next_rate(highest) is None
