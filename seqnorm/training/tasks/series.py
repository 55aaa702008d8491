"""The LightningModules for numeric series: classification and regression.

Axes: B series, T steps, F features, C classes, K targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import Scaling, SeriesBatch
from seqnorm.models import SeriesClassifier

from .base import Schedule, TaskModule, number
from .classes import ClassesModule, balanced_weights
from .metrics import RegressionErrors


class SeriesClassification(ClassesModule[SeriesClassifier]):
    """A classifier of series with its loss, metrics and optimizer.

    Its checkpoints hold all that is needed to classify series, as plain data: the names of the
    features with their mean and standard deviation, the names of the classes and all arguments.

    Args:
        features: The scaling of the features as JSON.
        classes: The names of the classes.
        lr: The highest learning rate.
        warmup: The part of the training steps over which the rate rises linearly to ``lr``.
        schedule: The course of the rate after the warm-up: cosine or linear (it falls to 0 at the
            end of training), or constant.
        weight_decay: The weight decay of AdamW. It applies to weight matrices only, not to biases
            nor to the gains and biases of norms.
        label_smoothing: The probability spread evenly over the classes, in training.
        class_weights: The weights of the classes. With balanced, the loss of a series counts n / (k
            n_c) times in training, for n series of k classes, and n_c of its class c; with null it
            counts once.
        class_counts: The number of training series of each class.
        length_edges: The lengths of series between the buckets of accuracy by length.
        network: The arguments of ``seqnorm.models.SeriesClassifier``.
    """

    def __init__(
        self,
        features: str,
        classes: Sequence[str],
        *,
        lr: float = 5e-3,
        warmup: float = 0.05,
        schedule: Schedule = "cosine",
        weight_decay: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
        class_counts: Sequence[int] | None = None,
        length_edges: Sequence[int] = (25, 50, 100, 200),
        **network: Any,
    ) -> None:
        scaling = Scaling.from_json(features)
        super().__init__(
            SeriesClassifier(len(scaling.names), len(classes), **network),
            classes,
            length_edges,
        )
        if class_weights is not None:
            self.class_weight = balanced_weights(class_counts, len(classes))
        self.features = scaling

    @property
    def files(self) -> dict[str, str]:
        return {"features.json": self.features.to_json()}

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return class logits (B, C) of scaled ``values`` (B, T, F) with ``lengths`` (B,)."""
        return self.network(values, lengths)

    def decays(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim > 1


class SeriesRegression(TaskModule[SeriesClassifier, RegressionErrors]):
    """A network that predicts targets from series, with its loss, metrics and optimizer.

    The targets are standardised, and the loss is the mean squared error of the standardised
    targets. Mean absolute error (MAE), root mean squared error (RMSE) and R² are in the original
    units; of several targets, each is the mean over the targets.

    Args:
        features: The scaling of the features as JSON.
        targets: The scaling of the targets as JSON.
        lr: The highest learning rate.
        warmup: The part of the training steps over which the rate rises linearly to ``lr``.
        schedule: The course of the rate after the warm-up: cosine or linear (it falls to 0 at the
            end of training), or constant.
        weight_decay: The weight decay of AdamW. It applies to weight matrices only, not to biases
            nor to the gains and biases of norms.
        network: The arguments of ``seqnorm.models.SeriesClassifier``.
    """

    def __init__(
        self,
        features: str,
        targets: str,
        *,
        lr: float = 5e-3,
        warmup: float = 0.05,
        schedule: Schedule = "cosine",
        weight_decay: float = 0.0,
        **network: Any,
    ) -> None:
        scaling, goals = Scaling.from_json(features), Scaling.from_json(targets)
        super().__init__(
            SeriesClassifier(len(scaling.names), len(goals.names), **network),
            {stage: RegressionErrors(goals.std) for stage in ("val", "test")},
            ("train_loss", "train_mae"),
        )
        self.features = scaling
        self.targets = goals

    @property
    def files(self) -> dict[str, str]:
        return {"features.json": self.features.to_json(), "targets.json": self.targets.to_json()}

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return standardised targets (B, K) of scaled ``values`` (B, T, F)."""
        return self.network(values, lengths)

    def training_step(self, batch: SeriesBatch) -> Tensor:
        predicted = self(batch.values, batch.lengths)
        loss = F.mse_loss(predicted, batch.targets)
        error = (predicted - batch.targets).abs().float()
        mae = (error * error.new_tensor(self.targets.std)).mean()
        self.log_means({"train_loss": loss, "train_mae": mae}, len(predicted))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def predict_step(self, batch: SeriesBatch) -> Tensor:
        """Return targets (B, K) in their original units, in float64 on the CPU."""
        return self.answers(self(batch.values, batch.lengths))

    def answers(self, outputs: Tensor) -> Tensor:
        """Return targets (B, K) in their original units of the outputs of the network."""
        return self.targets.undo(outputs.cpu().double())

    def evaluate(self, stage: str, batch: SeriesBatch) -> Tensor:
        """Add a batch to the metric of ``stage``, and return targets in their original units."""
        predicted = self(batch.values, batch.lengths)
        self.metric(stage).update(predicted, batch.targets)
        loss = F.mse_loss(predicted, batch.targets)
        examples = number(len(predicted))
        self.log(f"{stage}_loss", loss, batch_size=examples, sync_dist=True, prog_bar=True)
        return self.targets.undo(predicted.cpu().double())

    def log_metrics(self, stage: str) -> None:
        for name, values in self.metric(stage).compute().items():
            self.log(f"{stage}_{name}", mean(values), sync_dist=True, prog_bar=True)
            for target, value in zip(self.targets.names, values if len(values) > 1 else ()):
                self.log(f"{stage}_{name}/{target}", value, sync_dist=True)

    def decays(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim > 1
