"""A training run of a language model."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Callback
from torch import nn

from .averaging import ReestimateStatistics
from .language import LanguageModelling
from .run import Run


class LanguageRun(Run):
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it stays if resumed.

    Args:
        monitor: what the best epoch is best at, on the validation part.
        options: the other arguments of ``Run``.
    """

    def __init__(self, *, monitor: Literal["val_loss"] = "val_loss", **options: Any) -> None:
        super().__init__(monitor=monitor, **options)
        self.curves = ("loss", "perplexity")

    @property
    def before(self) -> list[Callback]:
        return []

    @property
    def reestimation(self) -> Callback:
        return ReestimateStatistics(_observe)


def _observe(model: nn.Module, batch: Any) -> None:
    assert isinstance(model, LanguageModelling)
    model.surprisal(batch, "estimate")
