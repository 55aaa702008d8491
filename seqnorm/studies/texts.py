"""Documents as token numbers, classifiers of them, their training and their answers.

Axes: N documents, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.datasets import (
    BucketBatchSampler,
    Documents,
    TextBatch,
    Tokenizer,
    collate,
    load_corpus,
    split_validation,
)
from seqnorm.models import TextClassifier
from seqnorm.nn import NormScheme, reestimate_statistics

from .remedied_training import REMEDIES, as_in_training, before_step, built

PER_STEP = ("batch", *REMEDIES)
Order = Iterable[Sequence[int]]  # of batches, each the indices of its documents


def evenly(count: int, most: int) -> Sequence[int]:
    """Return at most ``most`` indices below ``count``, equally far apart."""
    return range(0, count, max(1, math.ceil(count / most)))


def at_random(count: int, most: int) -> Sequence[int]:
    """Return at most ``most`` random indices below ``count``, the same in every run."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return [int(index) for index in order[:most]]


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

    def take(self, indices: Sequence[int]) -> Part:
        return Part([self.tokens[i] for i in indices], [self.labels[i] for i in indices])

    def longer(self, steps: int) -> Part:
        """Return the documents of more than ``steps`` tokens."""
        return self.take([i for i, length in enumerate(self.lengths) if length > steps])

    def head(self, steps: int) -> Part:
        """Return the first ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[:steps] for tokens in self.tokens])

    def tail(self, steps: int) -> Part:
        """Return the last ``steps`` tokens of every document."""
        return replace(self, tokens=[tokens[-steps:] for tokens in self.tokens])

    def again(self, steps: int) -> Part:
        """Repeat the first ``steps`` tokens of every document up to its length."""
        tokens = [[t[i % min(steps, len(t))] for i in range(len(t))] for t in self.tokens]
        return replace(self, tokens=tokens)


@dataclass(frozen=True)
class Texts:
    """A corpus as token numbers."""

    train: Part
    validation: Part
    test: Part
    vocabulary: int
    classes: int


@lru_cache(maxsize=4)
def load_texts(
    corpus: str,
    root: str,
    steps: int,
    vocabulary: int,
    choose: Callable[[int, int], Sequence[int]],
    sizes: tuple[int | None, int | None, int | None],
    words_of_chosen: bool = False,
) -> Texts:
    """Load the first ``steps`` tokens of documents of a corpus.

    Args:
        corpus: a name that ``load_corpus`` knows, or a file.
        root: folder that corpora are fetched to.
        vocabulary: largest number of known tokens, from the training part.
        choose: ``evenly`` or ``at_random``.
        sizes: largest numbers of training, validation and test documents; None for all of them.
        words_of_chosen: take the vocabulary from the chosen training documents alone.
    """
    found = load_corpus(corpus, root=root)
    whole = [*split_validation(found.train), found.test]
    chosen: list[Documents] = []
    for (texts, labels), most in zip(whole, sizes):
        places = range(len(texts)) if most is None else choose(len(texts), most)
        chosen.append(Documents(tuple(texts[i] for i in places), tuple(labels[i] for i in places)))
    source = chosen[0] if words_of_chosen else whole[0]
    tokenizer = Tokenizer.train(source.texts, vocab_size=vocabulary)
    # A document without words becomes one unknown word.
    train, validation, test = (
        Part([t or [Tokenizer.unk_id] for t in tokenizer.encode(texts, steps)], labels)
        for texts, labels in chosen
    )
    return Texts(train, validation, test, len(tokenizer), len(found.classes))


def classifier(
    texts: Texts, norm: str, *, embedding: int, hidden: int, max_steps: int | None, **options: Any
) -> TextClassifier:
    """Return an untrained classifier whose head sees nothing that bypassed the recurrent layer.

    Args:
        norm: "none" for no norm, or one of ``REMEDIES``.
        max_steps: size of the running tables of the norms ``PER_STEP``.
        options: other arguments of ``TextClassifier``; by default mean pooling and no dropout.
    """
    dropouts = dict.fromkeys(("word_dropout", "embedding_dropout", "dropout"), 0.0)
    plain: dict[str, Any] = {"pooling": "mean", **dropouts}
    return TextClassifier(
        texts.vocabulary,
        texts.classes,
        norm=None if norm == "none" else built(norm),
        norm_options={"max_steps": max_steps} if norm in PER_STEP and max_steps else None,
        embedding_size=embedding,
        hidden_size=hidden,
        bidirectional=False,
        pool_embeddings=False,
        **(plain | options),
    )


def replace_norm(model: TextClassifier, norm: NormScheme) -> None:
    """Give the recurrent layer another norm, and keep its other parameters."""
    drawn = model.recurrent
    layer = type(drawn)(drawn.input_size, drawn.hidden_size, batch_first=True, norm=norm)
    layer.load_state_dict(drawn.state_dict(), strict=False)
    model.recurrent = layer


def random_batches(part: Part, size: int, seed: int = 0) -> BucketBatchSampler:
    """Return random batches, because documents of one length are often of one class."""
    return BucketBatchSampler(part.lengths, batch_size=size, seed=seed, noise=math.inf)


def train(
    model: nn.Module,
    part: Part,
    *,
    rate: float,
    epochs: int,
    batch: int,
    seed: int,
    falling: bool = False,
    norm: str = "none",
) -> Iterator[float]:
    """Train with Adam in random batches, and yield the mean cross-entropy of every step.

    Args:
        falling: let the rate fall to 0 as half a cosine.
        norm: of the model, if it is one of ``REMEDIES``.
    """
    sampler = random_batches(part, batch, seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    torch.manual_seed(seed)  # for dropout, which is then the same in every model
    step, steps = 0, epochs * len(sampler)
    anew = partial(reestimate, model, part)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            tokens, lengths, labels, _ = part.batch(indices)
            model.train()
            before_step(norm, model, step, steps, anew)
            if falling:
                optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            loss = F.cross_entropy(model(tokens, lengths), labels)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            yield loss.item()


@torch.no_grad()
def logits(model: nn.Module, part: Part, order: Order, by_batch: bool = False) -> Tensor:
    """Compute the logits (N, C) of the documents in these batches.

    Args:
        order: batches that hold every document; the last answer about a document is kept.
        by_batch: normalise as training does, by the statistics of each batch unless they are
            frozen, and not by the running ones.
    """
    if not by_batch:
        model.eval()
    found: Tensor | None = None
    with as_in_training(model) if by_batch else nullcontext():
        for indices in order:
            batch = part.batch(indices)
            answers = model(batch.tokens, batch.lengths)
            if found is None:
                found = answers.new_full((len(part), answers.shape[1]), torch.nan)
            found[batch.indices] = answers
    assert found is not None
    return found


def error(model: nn.Module, part: Part) -> float:
    """Return the fraction of documents that are put into a wrong class in inference mode."""
    found = logits(model, part, in_order(part)).argmax(1)
    return int((found != torch.tensor(part.labels)).sum()) / len(part)


def with_statistics(
    model: TextClassifier, part: Part, order: Order, estimate: str = "population"
) -> TextClassifier:
    """Return a copy of the model whose running statistics are taken anew from these batches."""
    copy = deepcopy(model)
    reestimate(copy, part, order, estimate)
    return copy


def reestimate(
    model: nn.Module, part: Part, order: Order | None = None, estimate: str = "population"
) -> None:
    """Take the running statistics of the model anew from these batches, or from all documents."""
    batches = (part.batch(indices) for indices in (order or in_order(part)))
    reestimate_statistics(model, batches, lambda m, b: m(b.tokens, b.lengths), estimate=estimate)


def in_order(part: Part, size: int = 64) -> list[range]:
    """Return all documents of a part in batches."""
    places = range(len(part))
    return [places[start : start + size] for start in places[::size]]
