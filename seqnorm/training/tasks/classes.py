"""The base of the LightningModules that classify.

Axes: B examples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    """

    def __init__(self, network: N, classes: Sequence[str], length_edges: Sequence[int]) -> None:
        super().__init__(
            network,
            {s: LengthBucketConfusion(len(classes), length_edges) for s in ("val", "test")},
            ("train_loss", "train_accuracy"),
        )
        self.classes = tuple(classes)

    def training_step(self, batch: Any) -> Tensor:
        logits = self(batch[0], batch.lengths)
        smoothing = self.hparams["label_smoothing"]
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        hits = (logits.argmax(-1) == batch.labels).float().mean()
        self.log_means({"train_loss": loss, "train_accuracy": hits}, len(logits))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def predict_step(self, batch: Any) -> Tensor:
        """Return class probabilities (B, C)."""
        return self(batch[0], batch.lengths).softmax(-1)  # type: ignore[no-any-return]

    def evaluate(self, stage: str, batch: Any) -> None:
        logits = self(batch[0], batch.lengths)
        self.metric(stage).update(logits.argmax(-1), batch.labels, batch.lengths)
        loss = F.cross_entropy(logits, batch.labels)
        examples = number(len(logits))
        self.log(f"{stage}_loss", loss, batch_size=examples, sync_dist=True, prog_bar=True)

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
