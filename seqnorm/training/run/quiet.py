"""Lines of Lightning that tell users of this library nothing, and what is said instead."""

from __future__ import annotations

import logging

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero, rank_zero_info
from torch import nn

from seqnorm.nn import available_backends

# Beginnings of the lines that are left out: advertisements, and devices that are not there.
LEFT_OUT = (
    "💡 Tip:",
    "GPU available: False",
    "TPU available: False",
    "HPU available: False",
    "Loading `train_dataloader` to estimate",
    "`Trainer.fit` stopped: `max_epochs=",
)


def is_shown(record: logging.LogRecord) -> bool:
    """Return whether a line of Lightning is shown."""
    return not record.getMessage().startswith(LEFT_OUT)


def quieten() -> None:
    """Leave out lines of Lightning from now on."""
    logging.getLogger(rank_zero.__name__).addFilter(is_shown)


def describe(model: nn.Module) -> str:
    """Return the number of parameters of a model, and of each part that has any."""
    sizes = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in model.named_children()
    }
    parts = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)
    return f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters: {parts}"


def warn_of_slowness(trainer: Trainer) -> None:
    """Say why training on a CPU takes long, if the compiled kernels are missing."""
    state = available_backends()["cpu"]
    if trainer.strategy.root_device.type == "cpu" and not state.startswith("active"):
        rank_zero_info(f"Training is slow, because the compiled kernels are missing: {state}")
