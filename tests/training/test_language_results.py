"""The table of language models: a norm's rate is chosen in validation, by the runs of seed 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seqnorm.training.language_results import COLUMNS, markdown
from seqnorm.training.results import append_result

ROOT = Path(__file__).parents[2]


def write(path: Path, **values: object) -> None:
    row = dict.fromkeys(COLUMNS, "")
    row |= {"corpus": "mr", "mode": "stream", "level": "character", "cell": "lstm"}
    append_result(path, {**row, **values}, COLUMNS)


def runs(path: Path) -> None:
    for lr, loss, bits in ((0.01, 1.5, 2.0), (0.1, 1.4, 3.0)):  # worse in the test, and chosen
        write(
            path,
            norm="layer",
            lr=lr,
            seed=0,
            val_loss=loss,
            test_perplexity=9,
            test_bits_per_character=bits,
        )
    for seed, bits in ((1, 2.1), (2, 2.3)):
        write(
            path, norm="layer", lr=0.1, seed=seed, test_perplexity=4, test_bits_per_character=bits
        )
    write(path, norm="layer", lr=0.01, seed=1, test_perplexity=1, test_bits_per_character=1)


def test_table(tmp_path: Path) -> None:
    runs(tmp_path / "a.csv")
    head, _, row = markdown(tmp_path / "a.csv").splitlines()
    assert head.startswith("| corpus | mode | level | cell | norm | lr | test perplexity | bits")
    assert row == (
        "| mr | stream | character | lstm | layer | 0.1 | 4.0000 ± 0.0000 | 2.2000 ± 0.1414 | 2 |"
    )
    printed = subprocess.run(
        [sys.executable, "-m", "seqnorm.training.language_results", tmp_path / "a.csv"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert printed.stdout.strip() == markdown(tmp_path / "a.csv")


def test_runs_that_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", norm="none", lr=0.1, seed=1)
    with pytest.raises(ValueError, match="none: no run with seed 0 tries"):
        markdown(tmp_path / "a.csv")
    write(tmp_path / "b.csv", norm="none", lr=0.1, seed=0, val_loss=1)
    write(tmp_path / "b.csv", norm="none", lr=0.2, seed=1, val_loss=1)
    with pytest.raises(ValueError, match=r"no run with another seed than 0 at lr 0\.1"):
        markdown(tmp_path / "b.csv")
