"""Options of small sweeps, their tables, and their refusals."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from small_series import SMALL

Command = Callable[..., None]
SWEEP = Path("runs/tiny/sweep_0")
COLUMNS = ("--data.feature_columns=[x,y]", "--trainer.max_epochs=2")
CLASSES = ("--task=series_classification", *COLUMNS, "--run.monitor=val_loss")
SPACE = "--space={model.lr: {low: 1e-3, high: 0.1, log: true}, model.norm: [layer, none]}"


def sweep(run_seqnorm: Command, *arguments: str | Path) -> None:
    """Sweep over options of a classifier of the series in the folder ``tiny``."""
    run_seqnorm("sweep", "tiny", *SMALL, *CLASSES, *arguments)


def table(folder: Path = SWEEP) -> list[dict[str, str]]:
    """Return the table of the trials."""
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def refused(run_seqnorm: Command, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line with which a sweep is refused."""
    with pytest.raises(SystemExit) as stop:
        run_seqnorm("sweep", *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]
