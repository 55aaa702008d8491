"""The LightningModule of a text classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from seqnorm.datasets import tokenizer_from_json
from seqnorm.models import TextClassifier

from .base import Schedule
from .classes import ClassesModule, balanced_weights


class TextClassification(ClassesModule[TextClassifier]):
    """A text classifier with its loss, metrics and optimizer.

    Its checkpoints hold all that is needed to label texts, as plain data: the tokenizer, the names
    of the classes and all arguments.

    Args:
        tokenizer: The tokenizer as JSON.
        classes: The names of the classes.
        lr: The highest learning rate of AdamW.
        warmup: The part of the training steps over which the rate rises linearly to ``lr``.
        schedule: The course of the rate after the warm-up: cosine or linear (it falls to 0 at the
            end of training), or constant.
        weight_decay: The weight decay of AdamW. It applies to weight matrices only, not to biases
            nor to the gains and biases of norms.
        decay_embedding: Apply weight decay to the embedding too.
        label_smoothing: The probability spread evenly over the classes, in training.
        embedding: The initial embedding: normal (random), or cooccurrence (vectors from the
            co-occurrences in the training part, see ``seqnorm.models.cooccurrence_embedding``).
        wide_lr: The highest learning rate of the classifier of TF-IDF features (network option
            ``wide``), which is trained by SGD with momentum 0.9: AdamW takes as large a step for a
            word that occurs once as for one in every document. null trains it by AdamW too.
        part_loss: The weight of the losses of the two classifiers alone, with ``wide``, which are
            added to that of their sum. Without them, the part that learns faster leaves the other
            nothing to learn.
        consistency: The weight of R-Drop (Liang et al. 2021): every batch is read twice with
            different dropout, and the symmetric divergence (KL(p || q) + KL(q || p)) / 2 of the two
            predictions is added to the mean of their losses. It takes twice the time. 0 for one
            reading.
        class_weights: The weights of the classes. With balanced, the loss of a document counts n /
            (k n_c) times in training, for n documents of k classes, and n_c of its class c; with
            null it counts once.
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
        wide_lr: float | None = 0.5,
        part_loss: float = 0.5,
        consistency: float = 0.0,
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
            classes,
            length_edges,
        )
        if class_weights is not None:
            self.class_weight = balanced_weights(class_counts, len(classes))
        self.tokenizer = codes

    @property
    def files(self) -> dict[str, str]:
        return {"tokenizer.json": str(self.tokenizer.to_json())}

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return class logits (B, C) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid."""
        return self.network(tokens, lengths)

    def loss_and_logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        loss, logits = self._read(batch)
        weight = self.hparams["consistency"]
        if weight:
            again, others = self._read(batch)
            loss = (loss + again) / 2 + weight * symmetric_divergence(logits, others)
        return loss, logits

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits (B, C) of one reading of a batch."""
        deep, wide = self.network.parts(batch.tokens, batch.lengths)
        if wide is None:
            return self.cross_entropy(deep, batch.labels), deep
        logits = deep + wide
        losses = [self.cross_entropy(each, batch.labels) for each in (logits, deep, wide)]
        return losses[0] + self.hparams["part_loss"] * (losses[1] + losses[2]), logits

    def sgd(self, name: str) -> dict[str, float] | None:
        rate = self.hparams["wide_lr"]
        if rate is None or name != "wide.weight":
            return None
        return {"lr": rate, "momentum": 0.9}

    def decays(self, name: str, parameter: Tensor) -> bool:
        decayed = self.hparams["decay_embedding"] or name != "embedding.weight"
        return parameter.ndim > 1 and decayed


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean of (KL(p || q) + KL(q || p)) / 2 of the predictions of logits (B, C)."""
    log_p, log_q = one.log_softmax(-1), other.log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
