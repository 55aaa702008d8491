"""Documents as token numbers, whole and in parts.

Axes: B documents, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from seqnorm.datasets import (
    BucketBatchSampler,
    TextBatch,
    Tokenizer,
    collate,
    load_corpus,
    split_validation,
)


def evenly(count: int, most: int) -> range:
    """Return at most ``most`` places of ``count``, equally far apart."""
    return range(0, count, max(1, math.ceil(count / most)))


@dataclass(frozen=True)
class Part:
    """Documents and their classes: ``labels[i]`` is the class of ``tokens[i]``."""

    tokens: Sequence[Sequence[int]]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> list[int]:
        return [len(tokens) for tokens in self.tokens]

    def batch(self, indices: Sequence[int]) -> TextBatch:
        """Return these documents, padded to the longest of them."""
        return collate([(self.tokens[i], self.labels[i], i) for i in indices])

    def sample(self, most: int) -> Part:
        """Return at most ``most`` of the documents, spread evenly."""
        kept = evenly(len(self), most)
        return Part([self.tokens[i] for i in kept], [self.labels[i] for i in kept])

    def longer(self, steps: int) -> Part:
        """Return the documents of more than ``steps`` tokens."""
        kept = [i for i, length in enumerate(self.lengths) if length > steps]
        return Part([self.tokens[i] for i in kept], [self.labels[i] for i in kept])

    def head(self, steps: int) -> Part:
        """Return the first ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[:steps] for tokens in self.tokens])

    def tail(self, steps: int) -> Part:
        """Return the last ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[-steps:] for tokens in self.tokens])

    def again(self, steps: int) -> Part:
        """Repeat the first ``steps`` tokens over the length of every document.

        The documents have more steps and no new content.
        """
        repeated = [
            [tokens[t % min(steps, len(tokens))] for t in range(len(tokens))]
            for tokens in self.tokens
        ]
        return replace(self, tokens=repeated)


@dataclass(frozen=True)
class Texts:
    """A corpus as token numbers."""

    train: Part
    validation: Part
    test: Part
    vocabulary: int
    classes: int


@lru_cache(maxsize=4)
def load(corpus: str, root: str, steps: int, documents: int, tested: int, vocabulary: int) -> Texts:
    """Load the first ``steps`` tokens of the documents of a corpus.

    Args:
        corpus: a name that ``load_corpus`` knows, or a file.
        root: folder that corpora are fetched to.
        documents: largest number of the training part, spread evenly.
        tested: largest number of the test part, and of the validation part.
        vocabulary: largest number of known tokens, from the training part.
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
    """Yield all documents once in random batches, whatever their lengths."""
    sampler = BucketBatchSampler(part.lengths, batch_size=size, seed=seed, noise=math.inf)
    sampler.set_epoch(epoch)
    for indices in sampler:
        yield part.batch(indices)


def in_order(part: Part, size: int = 256) -> Iterator[TextBatch]:
    """Yield all documents once, documents of one length together."""
    for indices in BucketBatchSampler(part.lengths, batch_size=size, shuffle=False):
        yield part.batch(indices)
