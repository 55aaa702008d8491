"""A training run of a language model."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Callback
from torch import nn

from .callbacks import ReestimateStatistics
from .language import LanguageModelling
from .run import Run


class LanguageRun(Run):
    """A training run, in the folder ``<folder>/<name>/version_<n>``, where it stays if resumed.

    Args:
        folder: of all runs.
        name: of this one; null for the corpus's.
        monitor: what the best epoch is best at, on the validation part.
        patience: epochs without a better one after which training stops.
        ema_decay: decay a step of an exponential moving average of the weights, to validate and
            keep in place of the weights themselves; null for none. With BatchNorm it needs
            reestimate, for running averages are those of the weights themselves.
        reestimate: whether BatchNorm is validated and kept with statistics of the whole training
            part rather than with running averages.
        results: a CSV file to append the test result to, once: a run that had finished appends
            nothing when it is resumed.
    """

    def __init__(
        self,
        *,
        folder: str = "runs",
        name: str | None = None,
        monitor: Literal["val_loss"] = "val_loss",
        patience: int = 5,
        ema_decay: float | None = None,
        reestimate: bool = False,
        results: str | None = None,
    ) -> None:
        super().__init__(
            folder=folder,
            name=name,
            monitor=monitor,
            patience=patience,
            ema_decay=ema_decay,
            reestimate=reestimate,
            results=results,
        )
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
