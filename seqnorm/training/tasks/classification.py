"""The LightningModule of a text classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import TextBatch, tokenizer_from_json
from seqnorm.models import TextClassifier

from ..results.scores import accuracy, macro_f1
from .base import Schedule, TextModule, number
from .metrics import LengthBucketConfusion


class TextClassification(TextModule[TextClassifier, LengthBucketConfusion]):
    """A text classifier with its loss, metrics and optimizer.

    Its checkpoints hold all that is needed to label texts, as plain data: the tokenizer, the names
    of the classes and all arguments.

    Args:
        tokenizer: The tokenizer as JSON.
        classes: The names of the classes.
        lr: Highest learning rate.
        warmup: The part of the training steps over which the rate rises linearly to ``lr``.
        schedule: How the rate then falls to 0 at the end of training: cosine, linear, or constant
            (it stays).
        weight_decay: AdamW's weight decay, on weight matrices only, not on biases nor on the gains
            and biases of norms.
        decay_embedding: Apply weight decay to the embedding too.
        label_smoothing: The probability spread evenly over the classes, in training.
        embedding: The initial embedding: normal (random), or cooccurrence (vectors from the
            co-occurrences in the training part, see ``seqnorm.models.cooccurrence_embedding``).
        class_weights: balanced: the loss of a document counts n / (k n_c) times in training, for n
            documents of k classes, and n_c of its class c; null for once.
        class_counts: The number of training documents of each class.
        length_edges: The document lengths between the buckets of accuracy by length.
        network: The arguments of ``seqnorm.models.TextClassifier``.
    """

    def __init__(
        self,
        tokenizer: str,
        classes: Sequence[str],
        *,
        lr: float = 5e-3,
        warmup: float = 0.05,
        schedule: Schedule = "cosine",
        weight_decay: float = 0.0,
        decay_embedding: bool = False,
        label_smoothing: float = 0.0,
        embedding: Literal["normal", "cooccurrence"] = "cooccurrence",
        class_weights: Literal["balanced"] | None = None,
        class_counts: Sequence[int] | None = None,
        length_edges: Sequence[int] = (25, 50, 100, 200),
        **network: Any,
    ) -> None:
        codes = tokenizer_from_json(tokenizer)
        super().__init__(
            TextClassifier(
                len(codes), len(classes), pad_id=codes.pad_id, unk_id=codes.unk_id, **network
            ),
            {s: LengthBucketConfusion(len(classes), length_edges) for s in ("val", "test")},
            ("train_loss", "train_accuracy"),
        )
        self.tokenizer = codes
        self.classes = tuple(classes)
        weights = None
        if class_weights is not None:
            weights = balanced_weights(class_counts, len(classes))
        # The counts among the arguments determine it.
        self.register_buffer("class_weight", weights, persistent=False)

    class_weight: Tensor | None

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return class logits (B, C) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid."""
        return self.network(tokens, lengths)

    def training_step(self, batch: TextBatch) -> Tensor:
        logits = self(batch.tokens, batch.lengths)
        smoothing = self.hparams["label_smoothing"]
        if self.class_weight is None:
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        else:
            # torch's own weights would divide by their sum over the batch, so that a batch without
            # the rare class counted as much as others.
            losses = F.cross_entropy(
                logits, batch.labels, label_smoothing=smoothing, reduction="none"
            )
            loss = (losses * self.class_weight[batch.labels]).mean()
        hits = (logits.argmax(-1) == batch.labels).float().mean()
        self.log_means({"train_loss": loss, "train_accuracy": hits}, len(logits))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def predict_step(self, batch: TextBatch) -> Tensor:
        """Return class probabilities (B, C)."""
        return self(batch.tokens, batch.lengths).softmax(-1)  # type: ignore[no-any-return]

    def evaluate(self, stage: str, batch: TextBatch) -> None:
        logits = self(batch.tokens, batch.lengths)
        self.metric(stage).update(logits.argmax(-1), batch.labels, batch.lengths)
        loss = F.cross_entropy(logits, batch.labels)
        documents = number(len(logits))
        self.log(f"{stage}_loss", loss, batch_size=documents, sync_dist=True, prog_bar=True)

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

    def decays(self, name: str, parameter: Tensor) -> bool:
        decayed = self.hparams["decay_embedding"] or name != "embedding.weight"
        return parameter.ndim > 1 and decayed


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
