"""Checkpoints are never half written, and errors in reading them help."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SMALL

from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO, read_checkpoint

ROOT = Path(__file__).parents[3]


FULL = """
import resource, signal, sys, torch
from seqnorm.training.checkpoints.checkpoint_file import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    AtomicCheckpointIO().save_checkpoint({"epoch": 2, "weight": torch.zeros(100_000)}, sys.argv[1])
except OSError as error:
    print(error)
"""


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit of 50,000 bytes stands for a full disk."""
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    said = subprocess.check_output([sys.executable, "-c", FULL, path], text=True, cwd=ROOT)
    assert "the checkpoint could not be written; the one before is whole: File too large" in said
    assert str(path) in said
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    AtomicCheckpointIO().save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 3}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_ends_a_run_with_one_line(
    corpus: Path,
    tmp_path: Path,
    run_seqnorm: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second epoch finds no space, and the checkpoint of the first one is whole."""
    fsync = os.fsync

    def full(file: int) -> None:
        if last.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    last = tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt"

    options = (*SMALL, "--trainer.max_epochs=2", "--model.lr=0.05")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SystemExit) as stop:
            run_seqnorm("fit", "--data.corpus", corpus, *options)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "could not be written" in error
    assert "No space left on device" in error
    folder = Path("runs/tiny/version_0/checkpoints").absolute()
    assert sorted(file.name for file in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read_checkpoint(folder / "last.ckpt").contents["epoch"] == 0


@pytest.mark.parametrize("plugins", [(), ("--trainer.plugins=seqnorm.training.SyncBatchNorm",)])
def test_the_command_line_writes_so(
    plugins: tuple[str, ...],
    corpus: Path,
    run_seqnorm: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other plugins do not replace the atomic writer."""
    written: list[str] = []
    write = AtomicCheckpointIO.save_checkpoint

    def save(self: AtomicCheckpointIO, checkpoint: Any, path: Any, **options: Any) -> None:
        written.append(Path(path).name)
        write(self, checkpoint, path, **options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    run_seqnorm("fit", "--data.corpus", corpus, *SMALL, "--trainer.max_epochs=1", *plugins)
    assert sorted(written) == ["best.ckpt", "last.ckpt"]


def test_an_old_torch_reads_what_is_trusted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"hyper_parameters": {"tokenizer": "x"}, "state_dict": {}}
    torch.save(content, tmp_path / "given.ckpt")
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "own.ckpt")
    monkeypatch.setattr(torch, "__version__", "2.3.1+cpu")
    monkeypatch.delenv("SEQNORM_TRUST_CHECKPOINTS", raising=False)
    with pytest.raises(ValueError, match=r"given\.ckpt' is not read: with torch 2\.3\.1.*TRUST"):
        read_checkpoint(tmp_path / "given.ckpt")
    with pytest.raises(ValueError, match="CVE-2025-32434"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "given.ckpt")
    assert read_checkpoint(tmp_path / "own.ckpt").contents == content
    torch.save(content, tmp_path / "own.ckpt")  # written by another process since
    with pytest.raises(ValueError, match="CVE-2025-32434"):
        read_checkpoint(tmp_path / "own.ckpt")
    monkeypatch.setenv("SEQNORM_TRUST_CHECKPOINTS", "1")
    assert read_checkpoint(tmp_path / "given.ckpt").contents == content


def test_has_no_storage_options(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no storage options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={})


def test_messages_of_load(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no checkpoint '.*missing\.ckpt'"):
        read_checkpoint(tmp_path / "missing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"not a checkpoint of seqnorm\.training"):
        read_checkpoint(tmp_path / "other.ckpt")
    for content in (b"", b"some text", (tmp_path / "other.ckpt").read_bytes()[:-100]):
        (tmp_path / "broken.ckpt").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.ckpt' cannot be read as a checkpoint"):
            read_checkpoint(tmp_path / "broken.ckpt")
