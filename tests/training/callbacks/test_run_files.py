"""A full disk spoils no file of a run."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL


def full(file: int) -> None:
    """Fail as ``os.fsync`` does on a disk without space."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("task", ["classification", "language"])
def test_a_full_disk_spoils_no_file_of_a_run(
    task: str,
    corpus: Path,
    lines: Path,
    run_seqnorm: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Resume a run, which writes most of its files again, on a full disk."""
    data = corpus if task == "classification" else lines
    options = (f"--task={task}", f"--data.corpus={data}", *SMALL, "--run.name=run")
    run_seqnorm("fit", *options, "--trainer.max_epochs=1")
    folder = Path("runs/run/version_0").absolute()
    resume = ("fit", "--ckpt_path", folder / "checkpoints" / "last.ckpt")
    names = ["config.yaml", "tokenizer.json", "learning_curve.png", "metrics.csv"]
    names.append("test.json" if task == "language" else "confusion_matrix.png")
    opened = Path.open
    for name in names:
        before = (folder / name).read_bytes()

        def limited(path: Path, *args: Any, broken: str = name, **options: Any) -> Any:
            if broken in path.name:
                patch.setattr(os, "fsync", full)
            return opened(path, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", limited)
            with pytest.raises(SystemExit):
                run_seqnorm(*resume, "--trainer.max_epochs=2")
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: [Errno 28] the file could not be written; the one before")
        assert name in error
        assert (folder / name).read_bytes() == before
