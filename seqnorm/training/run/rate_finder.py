"""``seqnorm fit --find_lr true``: try rising learning rates and suggest one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.tuner.tuning import Tuner
from lightning.pytorch.utilities import rank_zero_info

from ..results.pictures import rate_curve
from .trainer import make_trainer

LOWEST, HIGHEST, STEPS = 1e-5, 1.0, 100


def find_rate(
    options: Mapping[str, Any], model: LightningModule, data: LightningDataModule, path: Path
) -> float:
    """Train with a rate that rises from 1e-5 to 1 in 100 steps, and suggest a rate.

    The suggestion is a tenth of the rate at which the smoothed loss is lowest. (The steepest fall,
    which Lightning suggests, is a matter of noise in the first steps.) Nothing of the search is
    kept but the picture.

    Args:
        options: The arguments of the trainer.
        path: The file of the picture.

    Raises:
        ValueError: The loss was never a finite number.
    """
    # An epoch has at least one step.
    path.parent.mkdir(parents=True, exist_ok=True)
    changed: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    # Lightning keeps the weights before the search in this folder, and removes them.
    changed["default_root_dir"] = path.parent
    trainer = make_trainer(options, model, max_epochs=STEPS, **changed)
    finder = Tuner(trainer).lr_find(
        model,
        datamodule=data,
        min_lr=LOWEST,
        max_lr=HIGHEST,
        num_training=STEPS,
        update_attr=False,
    )
    assert finder is not None  # only a fast development run gives None
    # The first losses are of one batch each, and may be low by chance.
    pairs = list(zip(finder.results["lr"], finder.results["loss"]))[10:]
    finite = [(loss, rate) for rate, loss in pairs if loss == loss]
    if not finite:
        raise ValueError("no rate can be suggested: the loss is not a finite number")
    lowest, rate = min(finite)
    if trainer.is_global_zero:
        rate_curve(pairs, rate / 10, path)
    rank_zero_info(
        f"Suggested: --model.lr {rate / 10:.1g}, a tenth of {rate:.1g}, where the loss is lowest "
        f"({lowest:.3f}). The curve is in {path}. Compare the rate with one three times as high "
        "and one three times as low by their validation."
    )
    return float(rate / 10)
