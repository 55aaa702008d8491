"""Checkpoints: written so that a crash leaves the old one or the new one, read as plain data."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from .files import replacing, unwritten

TRUST = "SEQNORM_TRUST_CHECKPOINTS"
# Below 2.6 torch.load could be made to run code although told to load plain data alone.
SAFE_TORCH = (2, 6)
# Files that this process has written, and when: those it need not mistrust.
_written: dict[Path, int] = {}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the target, flushes to the disk, then renames.

    Lightning's own writer goes through the system's temporary folder, which may be on another disk.
    A write that fails, as on a full one, leaves nothing of itself behind.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes ``checkpoint`` to the local file ``path``.

        Raises:
            OSError: it could not be written; what ``path`` was before is still there.
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO writes local files and has no storage options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as file:
                _write(checkpoint, _Errors(file))
        except OSError as error:
            raise unwritten(error, path, "the checkpoint") from error
        trust(path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """As ``load_checkpoint`` does, which takes plain data alone, whatever ``weights_only``."""
        checkpoint = load_checkpoint(path)
        states = checkpoint.get("callbacks")
        if isinstance(states, dict) and "RunFiles" in states:
            checkpoint["callbacks"] = _renamed(states)
        return checkpoint


def _renamed(states: Mapping[Any, Any]) -> dict[Any, Any]:
    """The states of a run's callbacks, of which two once had the names of Lightning's."""
    if any(str(name).startswith("RunCheckpoint{") for name in states):
        return dict(states)
    was = re.compile(r"(?:Model(Checkpoint)|(EarlyStopping))(?={)")
    return {was.sub(r"Run\1\2", str(name)): state for name, state in states.items()}


class _Errors:
    """A file whose first error is kept: torch's writer would put one of its own in its place."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.first: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            written: int = self._file.write(data)
        except OSError as error:
            self.first = self.first or error
            raise
        return written

    def flush(self) -> None:
        self._file.flush()


def _write(checkpoint: dict[str, Any], file: _Errors) -> None:
    try:
        torch.save(checkpoint, cast("IO[bytes]", file))  # which writes and flushes, no more
    except Exception as error:
        raise file.first or error from None


def trust(path: str | Path) -> None:
    """Takes a file as it is now for one that this process wrote: of several, one writes."""
    path = Path(path)
    _written[path.absolute()] = path.stat().st_mtime_ns


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU; only tensors and plain values can be in it.

    With a torch below 2.6, whose ``torch.load`` could be made to run code even so (CVE-2025-32434),
    only checkpoints that this process wrote are read, unless ``SEQNORM_TRUST_CHECKPOINTS=1`` in the
    environment says that all can be trusted.

    Raises:
        ValueError: there is no such file, it cannot be trusted, or it is no checkpoint of a
            TextClassification.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is no file" if path.exists() else "does not exist"
        raise ValueError(
            f"there is no checkpoint {str(path)!r}, it {kind}: give the path of a .ckpt file, as "
            "runs/r8/version_0/checkpoints/best.ckpt"
        )
    _check_trust(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} cannot be read as a checkpoint: it is cut short, damaged, or no file "
            "of torch.save"
        )
    _check_members(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler stumbles over other bytes in any way
        if found := re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error)):
            raise ValueError(
                f"{str(path)!r} is refused: beside tensors and plain values it holds {found[1]}, "
                "which could run code"
            ) from error
        reason = type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as a checkpoint ({reason})") from error
    parameters = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(parameters, Mapping) or "tokenizer" not in parameters:
        raise ValueError(f"{str(path)!r} is not a checkpoint of seqnorm.training")
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in weights.values()
    ):
        raise ValueError(f"{str(path)!r} has no weights (state_dict)")
    for name, tensor in weights.items():
        if not is_plain(tensor):
            raise ValueError(f"{str(path)!r}: its weight {name} is no plain tensor in memory")
    return checkpoint  # type: ignore[no-any-return]


def _check_members(path: Path) -> None:
    """That the archive holds as many bytes as it unpacks to, as torch.save writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a checkpoint: {error}") from error
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError(f"{str(path)!r} is no file of torch.save: it is compressed")


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether all its elements are in memory."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _check_trust(path: Path) -> None:
    version = tuple(int(piece) for piece in torch.__version__.split(".")[:2])
    if version >= SAFE_TORCH or os.environ.get(TRUST) == "1":
        return
    if _written.get(path.absolute()) == path.stat().st_mtime_ns:
        return
    raise ValueError(
        f"{str(path)!r} is not read: with torch {torch.__version__} a checkpoint can run code even "
        "where only plain data are loaded (CVE-2025-32434). Use torch 2.6 or newer, or, for a "
        f"checkpoint of your own, set {TRUST}=1"
    )
