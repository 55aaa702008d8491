"""AdamW with a learning rate that rises and then falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

# Far above any useful rate, and far below the largest float32.
_MAX_LR = 1e6


def check_rate(lr: float, warmup: float) -> None:
    """Raise ValueError if ``lr`` or ``warmup`` is out of range."""
    if not 0 <= lr <= _MAX_LR:
        raise ValueError(f"lr must lie between 0 and {_MAX_LR:g}, got {lr}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a part of the training steps, from 0 to below 1, got {warmup}")


def scheduled_adamw(
    decayed: Sequence[Tensor],
    kept: Sequence[Tensor],
    steps: float,
    *,
    lr: float,
    warmup: float,
    schedule: str,
    weight_decay: float,
) -> OptimizerLRSchedulerConfig:
    """Return AdamW with a schedule that sets its learning rate at every step.

    Args:
        decayed: Parameters with weight decay.
        kept: Parameters without weight decay.
        steps: Number of training steps.
        lr: Highest learning rate.
        warmup: Part of the steps over which the rate rises.
        schedule: How the rate falls; see ``rate``.
        weight_decay: AdamW's.

    Raises:
        ValueError: The number of steps is infinite.
    """
    if steps == math.inf:
        raise ValueError("the learning rate's schedule needs an end: set trainer.max_epochs")
    groups: list[dict[str, Any]] = [
        {"params": list(decayed)},
        {"params": list(kept), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    scheduler = LambdaLR(optimizer, lambda step: rate(step, int(steps), warmup, schedule))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def rate(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Return the learning rate of a step, as a part of the highest rate.

    It rises linearly over the part ``warmup`` of the ``steps``. Then it falls to 0 along a cosine
    or a line, or stays constant, as ``schedule`` says.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    progress = min((step - rising) / max(steps - rising, 1), 1.0)
    return 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
