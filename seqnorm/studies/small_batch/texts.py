"""The documents of the study, and training on them.

Axes: B documents, T tokens.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.datasets import TextBatch, TextDataset, Tokenizer, collate, load_corpus
from seqnorm.datasets import split_validation as split
from seqnorm.models import TextClassifier
from seqnorm.nn import reestimate_statistics

EVALUATED = 64


@dataclass(frozen=True)
class TextTask:
    """Encoded documents to train, validate and test with."""

    train: TextDataset
    validation: TextDataset
    test: TextDataset
    vocabulary: int
    classes: int

    def subset(self, part: TextDataset, places: list[int]) -> TextBatch:
        """The documents at these places, padded to the longest."""
        return collate([part[place] for place in places])


@lru_cache(maxsize=1)
def load_text_task(corpus: str, tokens: int, words: int, documents: int, root: str) -> TextTask:
    """A corpus, every document cut after ``tokens`` words, of the most frequent ``words``.

    A tenth of the training part validates; of the rest ``documents`` train, a seeded choice.
    """
    found = load_corpus(corpus, root=root)
    train, validation = split(found.train)
    tokenizer = Tokenizer.train(train.texts, vocab_size=words)
    order = torch.randperm(len(train.texts), generator=torch.Generator().manual_seed(0))
    chosen = order[:documents].tolist()
    if len(chosen) < documents:
        raise ValueError(f"{corpus} has {len(chosen)} documents to train with, not {documents}")
    return TextTask(
        TextDataset(
            tokenizer.encode([train.texts[i] for i in chosen], tokens),
            [train.labels[i] for i in chosen],
        ),
        TextDataset(tokenizer.encode(validation.texts, tokens), validation.labels),
        TextDataset(tokenizer.encode(found.test.texts, tokens), found.test.labels),
        len(tokenizer),
        len(found.classes),
    )


@dataclass(frozen=True)
class TextRun:
    """How one LSTM is trained: Adam at a constant rate, every epoch in another random order.

    Attributes:
        batch: documents of a step of the optimiser.
        group: documents whose statistics BatchNorm takes together; None for the whole batch. The
            groups of a batch go through the network one after the other, and their gradients are
            summed before the step.
        twice: every document is given twice, which leaves BatchNorm of a single one no statistics
            but its own: mean the row, variance 0.
    """

    norm: str
    batch: int
    group: int | None
    rate: float
    epochs: int
    hidden: int
    seed: int
    twice: bool = False

    def measure(self, task: TextTask) -> dict[str, float]:
        """Trains, and returns errors on validation and test documents and the last epoch's loss."""
        torch.manual_seed(self.seed)
        model = TextClassifier(
            task.vocabulary,
            task.classes,
            norm=None if self.norm == "none" else self.norm,
            embedding_size=self.hidden,
            hidden_size=self.hidden,
            bidirectional=False,
            pooling="mean",
            pool_embeddings=False,  # a way past the recurrent layer would hide what it learns
            word_dropout=0.0,
            embedding_dropout=0.0,
            dropout=0.0,
        )
        with warnings.catch_warnings():
            if self.batch == 1:
                # That BatchNorm cannot use a single row is what is measured here.
                warnings.filterwarnings("ignore", "BatchNorm in training on 1 row")
            loss = self._train(model, task)
        measured = {
            "loss": loss,
            "validation_error": error(model, task, task.validation),
            "error": error(model, task, task.test),
        }
        # Statistics of many documents would undo what a batch of one does.
        if self.norm == "batch" and self.batch > 1:
            batches = _in_order(task, task.train)
            reestimate_statistics(model, batches, lambda m, b: m(b.tokens, b.lengths))
            measured["error_reestimated"] = error(model, task, task.test)
        return measured

    def _train(self, model: TextClassifier, task: TextTask) -> float:
        optimiser = torch.optim.Adam(model.parameters(), self.rate)
        generator = torch.Generator().manual_seed(self.seed)
        steps = len(task.train) // self.batch
        model.train()
        for _ in range(self.epochs):
            order = torch.randperm(len(task.train), generator=generator)[: steps * self.batch]
            total = 0.0
            for chosen in order.split(self.batch):
                optimiser.zero_grad()
                for group in chosen.split(self.group or self.batch):
                    batch = task.subset(task.train, group.tolist() * (1 + self.twice))
                    logits = model(batch.tokens, batch.lengths)
                    loss = F.cross_entropy(logits, batch.labels, reduction="sum")
                    loss = loss / (self.batch * (1 + self.twice))
                    loss.backward()
                    total += loss.item()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
        return total / steps


def _in_order(task: TextTask, part: TextDataset) -> list[TextBatch]:
    places = range(len(part))
    return [
        task.subset(part, list(places[start : start + EVALUATED]))
        for start in range(0, len(part), EVALUATED)
    ]


@torch.no_grad()
def error(model: TextClassifier, task: TextTask, part: TextDataset) -> float:
    """The fraction of documents put into a wrong class."""
    model.eval()
    wrong = 0
    for batch in _in_order(task, part):
        found: Tensor = model(batch.tokens, batch.lengths).argmax(1)
        wrong += int((found != batch.labels).sum())
    return wrong / len(part)
