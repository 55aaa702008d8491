"""Documents as numbers, and training on them: what the runs of the study of dynamic networks share.

Axes: B documents, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import (
    BucketBatchSampler,
    TextBatch,
    Tokenizer,
    collate,
    load_corpus,
    split_validation,
)
from seqnorm.models import TextClassifier
from seqnorm.nn.statistics.running_table import RunningTable


def evenly(count: int, most: int) -> range:
    """At most so many places of ``count``, equally far apart."""
    return range(0, count, max(1, math.ceil(count / most)))


@dataclass(frozen=True)
class Part:
    """Documents and their classes: ``labels[i]`` is that of ``tokens[i]``."""

    tokens: Sequence[Sequence[int]]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> list[int]:
        return [len(tokens) for tokens in self.tokens]

    def batch(self, indices: Sequence[int]) -> TextBatch:
        """These documents, padded to the longest of them."""
        return collate([(self.tokens[i], self.labels[i], i) for i in indices])

    def sample(self, most: int) -> Part:
        """At most so many of the documents, spread evenly."""
        kept = evenly(len(self), most)
        return Part([self.tokens[i] for i in kept], [self.labels[i] for i in kept])

    def longer(self, steps: int) -> Part:
        """The documents of more than ``steps`` tokens."""
        kept = [i for i, length in enumerate(self.lengths) if length > steps]
        return Part([self.tokens[i] for i in kept], [self.labels[i] for i in kept])

    def head(self, steps: int) -> Part:
        """The first ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[:steps] for tokens in self.tokens])

    def tail(self, steps: int) -> Part:
        """The last ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[-steps:] for tokens in self.tokens])

    def again(self, steps: int) -> Part:
        """As long as every document is, its first ``steps`` tokens over and over: no new content,
        more steps."""
        repeated = [
            [tokens[t % min(steps, len(tokens))] for t in range(len(tokens))]
            for tokens in self.tokens
        ]
        return replace(self, tokens=repeated)


@dataclass(frozen=True)
class Texts:
    """A corpus as numbers."""

    train: Part
    validation: Part
    test: Part
    vocabulary: int
    classes: int


@lru_cache(maxsize=4)
def load(corpus: str, root: str, steps: int, documents: int, tested: int, vocabulary: int) -> Texts:
    """The first ``steps`` tokens of the documents of a corpus.

    Args:
        corpus: a name that ``load_corpus`` knows, or a file.
        root: where corpora are fetched to.
        documents: at most so many of the training part, spread evenly.
        tested: at most so many of the test part, and of the validation part.
        vocabulary: at most so many tokens, of the training part.
    """
    found = load_corpus(corpus, root=root)
    train, validation = split_validation(found.train)
    tokenizer = Tokenizer.train(train.texts, vocab_size=vocabulary)

    def part(texts: Sequence[str], labels: Sequence[int], most: int) -> Part:
        kept = evenly(len(texts), most)
        tokens = tokenizer.encode([texts[i] for i in kept], steps)
        # A document without a known word has one unknown word.
        return Part([t or [Tokenizer.unk_id] for t in tokens], [labels[i] for i in kept])

    return Texts(
        part(*train, documents),
        part(*validation, tested),
        part(*found.test, tested),
        len(tokenizer),
        len(found.classes),
    )


def batches(part: Part, size: int, seed: int = 0, epoch: int = 0) -> Iterator[TextBatch]:
    """All documents once in random batches, whatever their lengths."""
    sampler = BucketBatchSampler(part.lengths, batch_size=size, seed=seed, noise=math.inf)
    sampler.set_epoch(epoch)
    for indices in sampler:
        yield part.batch(indices)


def in_order(part: Part, size: int = 256) -> Iterator[TextBatch]:
    """All documents once, those of like length together: for what does not look at the batch."""
    for indices in BucketBatchSampler(part.lengths, batch_size=size, shuffle=False):
        yield part.batch(indices)


def train(
    model: TextClassifier, part: Part, *, rate: float, epochs: int, batch: int, seed: int
) -> float:
    """Trains with Adam on the cross-entropy; the mean loss of the last epoch."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    torch.manual_seed(seed)  # of dropout: the same in every model
    losses: list[float] = []
    model.train()
    for epoch in range(epochs):
        losses.clear()
        for tokens, lengths, labels, _ in batches(part, batch, seed, epoch):
            loss = F.cross_entropy(model(tokens, lengths), labels)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
    model.eval()
    return sum(losses) / len(losses)


@torch.no_grad()
def right(model: TextClassifier, part: Part) -> Tensor:
    """(documents,) whether each is classified rightly, in inference mode."""
    model.eval()
    found = torch.zeros(len(part), dtype=torch.bool)
    for tokens, lengths, labels, indices in in_order(part):
        found[indices] = model(tokens, lengths).argmax(-1) == labels
    return found


def share(flags: Tensor) -> float:
    """Of those that are true."""
    return float(flags.double().mean())


def accuracy(model: TextClassifier, part: Part) -> float:
    """Share of documents classified rightly, in inference mode."""
    return share(right(model, part))


def tables_of(model: nn.Module) -> dict[str, RunningTable]:
    """The running tables of a model by site: ``norm_ih``, ``norm_hh``, ``norm_cell``."""
    return {
        name.split(".")[-2].removesuffix("_l0"): table
        for name, table in model.named_modules()
        if isinstance(table, RunningTable)
    }
