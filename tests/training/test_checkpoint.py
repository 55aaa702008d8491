"""Checkpoints: never half written, and read with a message that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqnorm.training.checkpoint import AtomicCheckpointIO, load_checkpoint


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    save = torch.save

    def die(checkpoint: Any, file: Any) -> None:
        save(checkpoint, file)
        file.seek(100)
        file.truncate()
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    monkeypatch.undo()
    AtomicCheckpointIO().save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 3}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_has_no_storage_options(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no storage options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={})


def test_messages_of_load(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no checkpoint '.*missing\.ckpt'"):
        load_checkpoint(tmp_path / "missing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"not a checkpoint of seqnorm\.training"):
        load_checkpoint(tmp_path / "other.ckpt")
    for content in (b"", b"some text", (tmp_path / "other.ckpt").read_bytes()[:-100]):
        (tmp_path / "broken.ckpt").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.ckpt' cannot be read as a checkpoint"):
            load_checkpoint(tmp_path / "broken.ckpt")
