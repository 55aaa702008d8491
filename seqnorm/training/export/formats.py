"""The kinds of files that ``seqnorm export`` writes, by their endings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..checkpoints.checkpoint_file import Checkpoint
from .c import write_c
from .onnx import write_onnx

# The function that writes a file: the checkpoint, the path, and the options of ``export``.
Writer = Callable[..., "list[Path]"]
WRITERS: Mapping[str, Writer] = {".onnx": write_onnx, ".h": write_c}


def export(checkpoint: Checkpoint, to: str, step: bool = False, int8: bool = False) -> list[Path]:
    """Write the model of a checkpoint as a file for other programs.

    Args:
        checkpoint: The checkpoint.
        to: The file to write. Its ending decides about the format: .onnx for the model,
            .h for its recurrent layer in C.
        step: Write one step of a language model instead of its loop over time.
        int8: Store matrices and embeddings in 8 bits.

    Returns:
        The files that were written.

    Raises:
        ValueError: The ending is unknown, the model has no single step, or its layers cannot be
            exported.
        FileNotFoundError: The folder of the file does not exist.
    """
    path = Path(to)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(
            f"{to}: the ending of the file decides about its format, and it must be one of "
            f"{', '.join(WRITERS)}"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: create it first")
    return writer(checkpoint, path, step, int8)
