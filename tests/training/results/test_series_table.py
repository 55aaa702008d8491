"""The table of the results on series."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqnorm.training.results.rows import append_row
from seqnorm.training.results.series_table import CLASSIFICATION, markdown


def write(path: Path, norm: str, lr: str, seed: str, loss: float, accuracy: float) -> None:
    row = dict.fromkeys(CLASSIFICATION, "1") | {"corpus": "c", "cell": "gru", "norm": norm}
    row |= {"lr": lr, "seed": seed, "val_loss": str(loss), "test_accuracy": str(accuracy)}
    append_row(path, row, CLASSIFICATION)


def test_the_rate_is_chosen_by_the_validation_loss(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    for lr, loss in (("0.003", 0.3), ("0.01", 0.1), ("0.03", 0.2)):
        write(path, "layer", lr, "0", loss, 0.5)
    with pytest.raises(ValueError, match=r"layer: no run with another seed than 0 at lr 0\.01"):
        markdown(path)
    for seed, accuracy in (("1", 0.9), ("2", 1.0)):
        write(path, "layer", "0.01", seed, 0.4, accuracy)
    write(path, "layer", "0.03", "1", 0.4, 0.1)  # another rate
    assert markdown(path).splitlines() == [
        "| corpus | cell | norm | lr | test accuracy | test macro F1 | runs |",
        "|---|---|---|---|---|---|---|",
        "| c | gru | layer | 0.01 | 0.9500 ± 0.0707 | 1.0000 ± 0.0000 | 2 |",
    ]
    write(path, "batch", "0.003", "0", 0.3, 0.5)
    with pytest.raises(ValueError, match=r"c gru batch: no run with seed 0 tries lr 0.01"):
        markdown(path)
