"""Files are written as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqnorm.training.files import replacing, write_atomically

from .conftest import SMALL


def full(file: int) -> None:
    """What stands for ``os.fsync`` on a disk without space."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "äh\n")
    assert path.read_bytes() == "äh\n".encode()
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == "äh\n".encode()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640 or os.name != "posix"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as file:  # noqa: PT012  it is raised within
        file.write(b"new")
        raise KeyError
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="file could not be written; the one before is whole: No sp"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError, match=r"missing.file'"):
        write_atomically(tmp_path / "missing" / "file", b"new")


@pytest.mark.parametrize("task", ["classification", "language"])
def test_a_full_disk_spoils_no_file_of_a_run(
    task: str,
    corpus: Path,
    lines: Path,
    train_py: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Resumed, a run writes most of them anew."""
    data = corpus if task == "classification" else lines
    options = (f"--task={task}", f"--data.corpus={data}", *SMALL, "--run.name=run")
    train_py("fit", *options, "--trainer.max_epochs=1")
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
                train_py(*resume, "--trainer.max_epochs=2")
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: [Errno 28] the file could not be written; the one before")
        assert name in error
        assert (folder / name).read_bytes() == before
