"""The base of the LightningModules that classify.

Axes: B examples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..results.scores import accuracy, macro_f1
from .base import N, TaskModule, number
from .metrics import LengthBucketConfusion


class ClassesModule(TaskModule[N, LengthBucketConfusion]):
    """A network that returns class logits, with loss and metrics.

    A batch has the inputs first, and the fields ``lengths`` and ``labels``. The constructor of a
    subclass has the argument ``label_smoothing``, besides those of ``TaskModule``.

    Args:
        network: The network.
        classes: The names of the classes.
        length_edges: The lengths between the buckets of accuracy by length.

    Attributes:
        class_weight: The weights (C,) of the classes in the loss of training, whose mean over the
            training part is 1; None if all count alike. The constructor of a subclass sets it.
    """

    class_weight: Tensor | None

    def __init__(self, network: N, classes: Sequence[str], length_edges: Sequence[int]) -> None:
        super().__init__(
            network,
            {s: LengthBucketConfusion(len(classes), length_edges) for s in ("val", "test")},
            ("train_loss", "train_accuracy"),
        )
        self.classes = tuple(classes)
        # The arguments of the subclass determine it.
        self.register_buffer("class_weight", None, persistent=False)

    def training_step(self, batch: Any) -> Tensor:
        loss, logits = self.loss_and_logits(batch)
        hits = (logits.argmax(-1) == batch.labels).float().mean()
        self.log_means({"train_loss": loss, "train_accuracy": hits}, len(logits))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def loss_and_logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the loss of a training batch, and its class logits (B, C)."""
        logits = self(batch[0], batch.lengths)
        return self.cross_entropy(logits, batch.labels), logits

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in training, with smoothed labels and weighted classes."""
        smoothing = self.hparams["label_smoothing"]
        if self.class_weight is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        # torch's own weights would divide by their sum over the batch, so that a batch without the
        # rare class counted as much as others.
        losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return (losses * self.class_weight[labels]).mean()

    def predict_step(self, batch: Any) -> Tensor:
        """Return class probabilities (B, C)."""
        return self.answers(self(batch[0], batch.lengths))

    def answers(self, logits: Tensor) -> Tensor:
        """Return class probabilities (B, C) of the outputs of the network."""
        return logits.softmax(-1)

    def evaluate(self, stage: str, batch: Any) -> Tensor:
        """Add a batch to the metric of ``stage``, and return class logits (B, C)."""
        logits: Tensor = self(batch[0], batch.lengths)
        self.metric(stage).update(logits.argmax(-1), batch.labels, batch.lengths)
        loss = F.cross_entropy(logits, batch.labels)
        examples = number(len(logits))
        self.log(f"{stage}_loss", loss, batch_size=examples, sync_dist=True, prog_bar=True)
        return logits

    def log_metrics(self, stage: str) -> None:
        metric = self.metric(stage)
        confusion = metric.compute()
        values = {
            f"{stage}_accuracy": accuracy(confusion.sum(0)),
            f"{stage}_macro_f1": macro_f1(confusion.sum(0)),
        }
        self.log_dict(values, sync_dist=True, prog_bar=True)
        for name, bucket in zip(metric.names, confusion):
            if bucket.sum() > 0:
                self.log(f"{stage}_accuracy/{name}", accuracy(bucket), sync_dist=True)
                self.log(f"{stage}_macro_f1/{name}", macro_f1(bucket), sync_dist=True)


def balanced_weights(counts: Sequence[int] | None, classes: int) -> Tensor:
    """Return the weight n / (k n_c) of each class, whose mean over the n documents is 1.

    A class without documents has weight 0 and is not counted among the k classes.

    Raises:
        ValueError: The counts are not those of so many classes.
    """
    if counts is None or len(counts) != classes or any(count < 0 for count in counts):
        raise ValueError(
            f"class_weights need class_counts, the number of training documents of each of the "
            f"{classes} classes, not {counts!r:.50}"
        )
    present = sum(count > 0 for count in counts)
    if not present:
        raise ValueError("class_counts are all 0")
    # In plain numbers, because a checkpoint is first built without memory.
    return torch.tensor([sum(counts) / (present * count) if count else 0.0 for count in counts])
