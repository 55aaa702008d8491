"""Options of small cross-validations, and checks of their files."""

from __future__ import annotations

from pathlib import Path

import torch
from small_runs import SMALL
from zipped import zipped

from seqnorm.training.checkpoints.checkpoint_file import read_checkpoint
from seqnorm.training.results.rows import read_rows

CLASSIFIER = (*SMALL, "--trainer.max_epochs=2", "--model.lr=0.05")
FOLDS = Path("runs/docs/folds_0")


def results(path: Path = FOLDS) -> list[dict[str, str]]:
    """Return folds.csv without the times."""
    rows = read_rows(path / "folds.csv")
    for row in rows:
        assert float(row.pop("seconds")) >= 0
    return rows


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path / "checkpoints" / "best.ckpt").weights)


def assert_same_weights(ours: Path, theirs: Path) -> None:
    """Compare the weights of two runs to the last digit."""
    for (name, one), (other, two) in zipped(weights(ours).items(), weights(theirs).items()):
        assert name == other
        assert torch.equal(one, two)
