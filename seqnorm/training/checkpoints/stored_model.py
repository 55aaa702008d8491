"""Build models from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import is_of_memory, line_of
from .checkpoint_file import Checkpoint, Trained

M = TypeVar("M", bound=nn.Module)


def stored_model(kind: type[M], checkpoint: Checkpoint, device: str = "cpu", **changed: Any) -> M:
    """Build the model in a checkpoint from its hyper-parameters, in evaluation mode.

    Args:
        kind: The class of the model.
        checkpoint: The checkpoint.
        device: The device of the model.
        changed: The hyper-parameters with other values than in the checkpoint.

    Raises:
        ValueError: The hyper-parameters make no model, the weights do not fit it, or the device
            does not exist.
    """
    path, weights = checkpoint.path, checkpoint.weights
    parameters = {**checkpoint.hyper_parameters, **changed}
    layers = parameters.get("num_layers", 1)
    if isinstance(layers, int) and layers > len(weights):  # all of them would be built first
        raise ValueError(f"{path}: {layers} layers, and {len(weights)} weights")
    try:
        # The first model takes no memory: a stranger may have written the sizes.
        with torch.device("meta"):
            load_weights(kind(**parameters), weights, path, assign=True)
        model = kind(**parameters)
        load_weights(model, weights, path)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # wrong hyper-parameters cause errors of any kind
        line = line_of(error)
        told = line if path in line else f"{path}: its hyper-parameters make no model: {line}"
        raise ValueError(told) from error
    try:
        model.to(device)
    except (AssertionError, RuntimeError) as error:  # torch raises either of them
        if is_of_memory(error):
            raise
        raise ValueError(f"there is no device {device!r}: {line_of(error)}") from error
    return model.eval()


def stored_size(trained: Trained, name: str) -> int | None:
    """Return a number of tokens out of the data's hyper-parameters.

    Raises:
        ValueError: The value is neither None nor a positive integer.
    """
    size = trained.data.get(name)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"{trained.path}: {name} is {size!r:.50}, not a number of tokens")
    return size


def load_weights(
    model: nn.Module, weights: Mapping[str, torch.Tensor], path: str, *, assign: bool = False
) -> None:
    """Load weights into a model.

    Raises:
        ValueError: A weight does not fit or is not finite; the error names the first.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name, tensor in weights.items():
        # A tensor of another shape may claim any size without having as much memory.
        if tensor.shape != shapes.get(name) or not tensor.is_floating_point():
            continue
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: its weights are not finite: {name} holds NaN or infinity")
    try:
        model.load_state_dict(weights, assign=assign)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        first = next((line for line in lines[1:] if line), lines[0])
        raise ValueError(
            f"{path}: its weights are not those of this model, but of another vocabulary, other "
            f"classes or other sizes: {first}"
        ) from error
