"""Write checkpoints atomically, and read them as plain data."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from seqnorm.files import CHECKPOINT, replacing, unwritten

TRUST = "SEQNORM_TRUST_CHECKPOINTS"
# Before 2.6, torch.load could be made to run code even with weights_only=True.
SAFE_TORCH = (2, 6)
# The format of checkpoints, and the key that holds it. A checkpoint without the key has format 1.
FORMAT = 1
FORMAT_KEY = "seqnorm_format"
# The hyper-parameters that describe the inputs of a model, one of which every checkpoint has.
INPUTS = {"tokenizer", "features"}
# The files that this process wrote, with their modification times. They can be trusted.
_written: dict[Path, int] = {}


class Trained(Protocol):
    """A trained model in a file: a checkpoint, or a file that was exported from one."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def task(self) -> str:
        """The task of the model."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The arguments of the data that the model was trained on, or some of them."""


class Checkpoint(NamedTuple):
    """A checkpoint, read and checked once.

    Attributes:
        path: The file.
        contents: The whole contents, on the CPU.
    """

    path: str
    contents: dict[str, Any]

    @property
    def hyper_parameters(self) -> Mapping[str, Any]:
        """The arguments of the LightningModule's constructor."""
        return self.contents["hyper_parameters"]  # type: ignore[no-any-return]

    @property
    def data(self) -> Mapping[str, Any]:
        """The arguments of the LightningDataModule's constructor, or {}."""
        found = self.contents.get("datamodule_hyper_parameters")
        return found if isinstance(found, Mapping) else {}

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """The state dict of the LightningModule."""
        return self.contents["state_dict"]  # type: ignore[no-any-return]

    @property
    def task(self) -> str:
        """The task of the model.

        A classifier has classes, and a model of series has features instead of a tokenizer.
        """
        classes = "classes" in self.hyper_parameters
        if "features" in self.hyper_parameters:
            return "series_classification" if classes else "series_regression"
        return "classification" if classes else "language"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints beside the target, flush them to the disk, and rename them.

    Lightning's own writer uses the system's temporary folder, which may be on another disk. A write
    that fails, as on a full disk, leaves no file behind.

    Args:
        resumed: The checkpoint of the run to resume, which is then not read a second time.
    """

    def __init__(self, resumed: Checkpoint | None = None) -> None:
        super().__init__()
        self._resumed = resumed

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to the local file ``path``.

        Raises:
            OSError: The file could not be written; its previous content is kept.
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO writes local files and has no storage options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # torch's writer would replace the error of a full disk by one of its own.
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        try:
            with replacing(path) as file:
                file.write(whole.getbuffer())
        except OSError as error:
            raise unwritten(error, path, "the checkpoint") from error
        trust(path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Return the contents of ``path``, which are plain data whatever ``weights_only`` is."""
        resumed, self._resumed = self._resumed, None  # needed once, and too large to keep
        if resumed is not None and Path(resumed.path) == Path(path):
            return resumed.contents
        return read_checkpoint(path).contents


def trust(path: str | Path) -> None:
    """Regard the file in its present state as written by this process.

    In training with several processes, one of them writes for all.
    """
    path = Path(path)
    _written[path.absolute()] = path.stat().st_mtime_ns


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; it may hold tensors and plain values only.

    Before torch 2.6, ``torch.load`` could be made to run code even so (CVE-2025-32434). With such a
    version only checkpoints that this process wrote are read, unless the environment variable
    ``SEQNORM_TRUST_CHECKPOINTS=1`` states that all can be trusted.

    Raises:
        ValueError: The file does not exist, cannot be trusted, or is no checkpoint of a
            LightningModule of ``seqnorm.training``.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is no file" if path.exists() else "does not exist"
        raise ValueError(
            f"there is no checkpoint {str(path)!r}, it {kind}: give the path of a .ckpt file, as "
            f"{CHECKPOINT}"
        )
    _check_trust(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} cannot be read as a checkpoint: it is cut short, damaged, or no file "
            "of torch.save"
        )
    _check_members(path)
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many kinds of errors on other bytes
        if found := re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error)):
            raise ValueError(
                f"{str(path)!r} is refused: beside tensors and plain values it holds {found[1]}, "
                "which could run code"
            ) from error
        reason = type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be read as a checkpoint ({reason})") from error
    parameters = contents.get("hyper_parameters") if isinstance(contents, dict) else None
    if not isinstance(parameters, Mapping) or not parameters.keys() & INPUTS:
        raise ValueError(f"{str(path)!r} is not a checkpoint of seqnorm.training")
    version = contents.get(FORMAT_KEY, 1)
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(
            f"{str(path)!r} has format {str(version)[:20]!r}, and this seqnorm reads up to "
            f"{FORMAT}: load it with a newer version"
        )
    weights = contents.get("state_dict")
    if not isinstance(weights, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in weights.values()
    ):
        raise ValueError(f"{str(path)!r} has no weights (state_dict)")
    for name, tensor in weights.items():
        if not is_plain(tensor):
            raise ValueError(f"{str(path)!r}: its weight {name} is not a plain tensor in memory")
    return Checkpoint(str(path), contents)


def _check_members(path: Path) -> None:
    """Refuse an archive that unpacks to more bytes than it has."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a checkpoint: {error}") from error
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError(f"{str(path)!r} was not written by torch.save: it is compressed")


def is_plain(tensor: torch.Tensor) -> bool:
    """Return whether all elements of a tensor are in memory."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def is_scalar(value: Any) -> bool:
    """Return whether a value is None, a truth value, a number or a text."""
    return value is None or type(value) in (bool, int, float, str)


def is_list_of_texts(value: Any) -> bool:
    """Return whether a value is a list of texts, such as the names of columns."""
    return type(value) is list and all(type(text) is str for text in value)


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
