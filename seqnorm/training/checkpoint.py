"""Checkpoints: written so that a crash leaves the old one or the new one, read as plain data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the target, flushes to the disk, then renames.

    Lightning's own writer goes through the system's temporary folder, which may be another file
    system, where the final move is a copy that an interruption leaves half done.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes ``checkpoint`` to the local file ``path``."""
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO writes local files and has no storage options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        with unfinished.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        if os.name == "posix":  # elsewhere a folder cannot be opened, nor needs to be
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU; only tensors and plain values can be in it.

    Raises:
        ValueError: there is no such file, or it is no checkpoint of a TextClassification.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"there is no checkpoint {str(path)!r}: give the path of a .ckpt file, as "
            "runs/r8/version_0/checkpoints/best.ckpt"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler stumbles over other bytes in any way
        reason = type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as a checkpoint ({reason})") from error
    if "tokenizer" not in checkpoint.get("hyper_parameters", {}):
        raise ValueError(f"{str(path)!r} is not a checkpoint of seqnorm.training")
    return checkpoint  # type: ignore[no-any-return]
