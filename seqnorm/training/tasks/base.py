"""The base of the LightningModules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from ..callbacks.reestimate import stale_statistics
from ..checkpoints.checkpoint_file import FORMAT, FORMAT_KEY
from .metrics import Mean
from .optimizer import HAS_FUSED, AdamWAndSGD

N = TypeVar("N", bound=nn.Module)
M = TypeVar("M", bound=Metric)
Schedule = Literal["cosine", "linear", "constant"]
# Far above any useful rate, and far below the largest float32.
_MAX_LR = 1e6


class TaskModule(LightningModule, ABC, Generic[N, M]):
    """A network, trained by AdamW and evaluated by a metric over a whole part.

    The constructor of a subclass has the arguments ``lr``, ``warmup``, ``schedule`` and
    ``weight_decay``, which this class reads from the hyper-parameters. Weight decay applies to the
    parameters that ``decays`` chooses. ``sgd`` chooses those that are trained by SGD instead.

    Args:
        network: The network.
        metrics: The metrics of the validation ("val") and the test part ("test"), which are reset
            at the start of every pass.
        means: The names of the values that ``log_means`` logs.

    Raises:
        ValueError: ``lr`` or ``warmup`` is out of range; or, at the start of training, a callback
            averages weights and leaves stale running statistics.
    """

    network: N

    def __init__(self, network: N, metrics: dict[str, M], means: Sequence[str]) -> None:
        super().__init__()
        # These are the arguments of the subclass.
        self.save_hyperparameters(ignore=["network", "metrics", "means"], logger=False)
        lr, warmup = self.hparams["lr"], self.hparams["warmup"]
        if not 0 <= lr <= _MAX_LR:
            raise ValueError(f"lr must lie between 0 and {_MAX_LR:g}, got {lr}")
        if not 0 <= warmup < 1:
            raise ValueError(
                f"warmup is a part of the training steps, from 0 to below 1, got {warmup}"
            )
        self.network = network
        self.metrics = nn.ModuleDict(metrics)
        self.means = nn.ModuleDict({name: Mean() for name in means})

    @property
    @abstractmethod
    def files(self) -> dict[str, str]:
        """The texts, by file name, that describe the inputs in the folder of a run."""

    @abstractmethod
    def evaluate(self, stage: str, batch: Any) -> Tensor | None:
        """Add a batch of the part ``stage`` to its metric, and return its predictions if any."""

    @abstractmethod
    def log_metrics(self, stage: str) -> None:
        """Log the value of the metric of ``stage``."""

    @abstractmethod
    def decays(self, name: str, parameter: Tensor) -> bool:
        """Return whether weight decay applies to a parameter of the network."""

    def sgd(self, name: str) -> dict[str, float] | None:
        """Return ``lr`` and ``momentum`` of a parameter trained by SGD, or None for AdamW."""
        return None

    def metric(self, stage: str) -> M:
        """Return the metric of the last pass over the validation ("val") or the test part."""
        return self.metrics[stage]  # type: ignore[return-value]  # a ModuleDict forgets the type

    def log_means(self, values: Mapping[str, Tensor], count: int) -> None:
        """Add the means ``values`` of ``count`` examples to those of this epoch of training."""
        for name, value in values.items():
            mean = self.means[name]
            assert isinstance(mean, Mean)
            mean.update(value, count)
            self.log(name, mean, on_step=False, on_epoch=True)

    def state_inside_epoch(self) -> dict[str, Any]:
        """Return the state between two training batches that is in no ``state_dict``."""
        return {"means": {name: mean.metric_state for name, mean in self.means.items()}}

    def load_state_inside_epoch(self, state: Mapping[str, Any]) -> None:
        """Restore the value of ``state_inside_epoch()``, on this module's device.

        Raises:
            ValueError: The state is not valid.
        """
        for name, mean in self.means.items():
            for key, value in state["means"][name].items():
                if key not in ("total", "count") or value.ndim or not bool(value.isfinite()):
                    raise ValueError(f"{key} of {name} is not a sum")
                setattr(mean, key, value)

    def on_fit_start(self) -> None:
        trouble = stale_statistics(self.trainer.callbacks, self)  # type: ignore[attr-defined]  # set by a connector
        if trouble is not None:
            raise ValueError(trouble)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[FORMAT_KEY] = FORMAT

    def on_validation_epoch_start(self) -> None:
        self.metric("val").reset()

    def validation_step(self, batch: Any) -> None:
        self.evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self.log_metrics("val")

    def on_test_epoch_start(self) -> None:
        self.metric("test").reset()

    def test_step(self, batch: Any) -> Tensor | None:
        return self.evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self.log_metrics("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer with a schedule that sets its learning rates at every step.

        Raises:
            ValueError: The number of training steps is infinite.
        """
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            raise ValueError("the learning rate's schedule needs an end: set trainer.max_epochs")
        decayed: list[Tensor] = []
        kept: list[Tensor] = []
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
        for name, parameter in self.network.named_parameters():
            own = self.sgd(name)
            if own is None:
                (decayed if self.decays(name, parameter) else kept).append(parameter)
            else:
                groups.append({"params": [parameter], "weight_decay": 0.0, **own})
        chosen = self.hparams
        # On a CPU, PyTorch's step without fused reads the weights of a large embedding ten times.
        fused = True if self.device.type == "cpu" and HAS_FUSED else None
        options = {"lr": chosen["lr"], "weight_decay": chosen["weight_decay"], "fused": fused}
        optimizer = AdamWAndSGD(groups, **options)
        warmup, schedule = chosen["warmup"], chosen["schedule"]
        scheduler = LambdaLR(optimizer, lambda step: rate(step, int(steps), warmup, schedule))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def number(count: int) -> int:
    """Return the number of examples of a mean as Lightning needs it: a float32 tensor.

    Lightning divides by the mean of the numbers over processes, which for integers is an integer:
    of 16 and 15 documents 15, and the loss is 3 % too large. With a model in half precision,
    Lightning would sum Python's floats in half precision, which is exact up to some thousand only.
    """
    # Lightning only adds and divides it.
    return torch.tensor(count, dtype=torch.float32)  # type: ignore[return-value]  # see above


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
