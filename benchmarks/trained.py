"""Runs of ``train.py fit`` whose networks a benchmark measures, a row for each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from seqnorm.training.checkpoints.checkpoint_file import Checkpoint, read_checkpoint
from seqnorm.training.results.rows import read_rows

ROOT = Path(__file__).resolve().parent.parent


def rows_so_far(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, and no rows if there is no file yet."""
    return read_rows(path) if path.exists() else []


def train(words: Sequence[str], folder: Path) -> Checkpoint:
    """Train with these options of ``fit``, and return the best checkpoint, or else the last one.

    Args:
        folder: of all runs with these options; each has a folder of its own in it.
    """
    places = ["--run.folder", str(folder.parent), "--run.name", folder.name, "--run.loggers", "[]"]
    command = [sys.executable, str(ROOT / "train.py"), "fit", *words, *places]
    subprocess.run([*command, "--trainer.enable_progress_bar", "false"], cwd=ROOT, check=True)
    run = max(folder.glob("version_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    best, last = (run / "checkpoints" / f"{each}.ckpt" for each in ("best", "last"))
    return read_checkpoint(best if best.exists() else last)
