"""The recurrent layer of a trained model as a library in C."""

from __future__ import annotations

from pathlib import Path

from seqnorm.export.c import to_c
from seqnorm.nn import RecurrentLayer

from ..checkpoints.checkpoint_file import Checkpoint
from .graphs import model_graph


def write_c(checkpoint: Checkpoint, path: Path, step: bool, int8: bool) -> list[Path]:
    """Write the recurrent layer of a model as a header in C, without what stands around it.

    Args:
        checkpoint: The checkpoint.
        path: The header.
        step: Must be false, because the header has functions for one step and for several.
        int8: Must be false.

    Returns:
        The files.

    Raises:
        ValueError: An option is true, the model has several recurrent layers in its modules, or
            the layer cannot be written in C.
    """
    if step:
        raise ValueError(f"{path} has functions for one step and for several: leave out --step")
    if int8:
        raise ValueError(f"{path}: the weights of a library in C are float32: leave out --int8")
    layers = [m for m in model_graph(checkpoint, False).modules() if isinstance(m, RecurrentLayer)]
    if len(layers) != 1:
        raise ValueError(
            f"{checkpoint.path} holds {len(layers)} recurrent modules, and a header holds one: "
            "write each by seqnorm.export.to_c(module, path)"
        )
    return to_c(layers[0], path)
