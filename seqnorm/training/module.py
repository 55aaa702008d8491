"""What the LightningModules of all tasks do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import Metric

from .averaging import unheeded
from .metrics import Mean
from .optimizing import check_rate, scheduled_adamw

N = TypeVar("N", bound=nn.Module)
M = TypeVar("M", bound=Metric)
Schedule = Literal["cosine", "linear", "constant"]


class TextModule(LightningModule, ABC, Generic[N, M]):
    """A network on text, evaluated by a metric over a whole part, and trained by AdamW.

    Args:
        network: the network.
        metrics: of the validation ("val") and of the test part ("test"), counted anew in every
            pass.
        means: what ``log_means`` is to log.
        lr: highest learning rate.
        warmup: part of the training steps over which the rate rises linearly to ``lr``.
        schedule: how it then falls to 0 at the end of training: cosine, linear, or constant (not
            at all).
        weight_decay: of AdamW, on the parameters that ``decays`` names.

    Raises:
        ValueError: ``lr`` or ``warmup`` is not valid; or, at the start of training, a callback
            averages weights without the running statistics of a model that has some.
    """

    network: N

    def __init__(
        self,
        network: N,
        metrics: dict[str, M],
        means: Sequence[str],
        *,
        lr: float,
        warmup: float,
        schedule: Schedule,
        weight_decay: float,
    ) -> None:
        super().__init__()
        check_rate(lr, warmup)
        self.network = network
        self.metrics = nn.ModuleDict(metrics)
        self.means = nn.ModuleDict({name: Mean() for name in means})
        self.lr = lr
        self.warmup = warmup
        self.schedule = schedule
        self.weight_decay = weight_decay

    @abstractmethod
    def evaluate(self, stage: str, batch: Any) -> None:
        """Takes a batch of the part ``stage`` into its metric."""

    @abstractmethod
    def log_metrics(self, stage: str) -> None:
        """Logs what the metric of ``stage`` comes to."""

    @abstractmethod
    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay applies to a parameter of the network."""

    def metric(self, stage: str) -> M:
        """What the last pass over the validation ("val") or test part counted."""
        return self.metrics[stage]  # type: ignore[return-value]  # a ModuleDict forgets the type

    def log_means(self, values: Mapping[str, Tensor], count: int) -> None:
        """Takes the means ``values`` of ``count`` examples into those of this epoch of training."""
        for name, value in values.items():
            mean = self.means[name]
            assert isinstance(mean, Mean)
            mean.update(value, count)
            self.log(name, mean, on_step=False, on_epoch=True)

    def state_inside_epoch(self) -> dict[str, Any]:
        """What lasts from one batch of training to the next and is in no ``state_dict``."""
        return {"means": {name: mean.metric_state for name, mean in self.means.items()}}

    def load_state_inside_epoch(self, state: Mapping[str, Any]) -> None:
        """Goes on from ``state_inside_epoch()``, on this module's device.

        Raises:
            ValueError: it is none.
        """
        for name, mean in self.means.items():
            for key, value in state["means"][name].items():
                if key not in ("total", "count") or value.ndim or not bool(value.isfinite()):
                    raise ValueError(f"{key} of {name} is no sum")
                setattr(mean, key, value)

    def on_fit_start(self) -> None:
        trouble = unheeded(self.trainer.callbacks, self)  # type: ignore[attr-defined]  # set by a connector
        if trouble is not None:
            raise ValueError(trouble)

    def on_validation_epoch_start(self) -> None:
        self.metric("val").reset()

    def validation_step(self, batch: Any) -> None:
        self.evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self.log_metrics("val")

    def on_test_epoch_start(self) -> None:
        self.metric("test").reset()

    def test_step(self, batch: Any) -> None:
        self.evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self.log_metrics("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, its learning rate set at every step."""
        decayed: list[Tensor] = []
        kept: list[Tensor] = []
        for name, parameter in self.network.named_parameters():
            (decayed if self.decays(name, parameter) else kept).append(parameter)
        return scheduled_adamw(
            decayed,
            kept,
            self.trainer.estimated_stepping_batches,
            lr=self.lr,
            warmup=self.warmup,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
        )


def number(count: int) -> int:
    """How many examples a mean was taken over, as Lightning has to be told.

    No whole number, for the mean of those over the processes, by which it divides, is whole too: of
    16 and 15 documents 15, and a loss comes out 3 % too large. A tensor, for in half precision the
    sum of Python's floats is one of half precision, which ends at some thousand documents.
    """
    # What takes it only adds and divides.
    return torch.tensor(count, dtype=torch.float32)  # type: ignore[return-value]  # see above
