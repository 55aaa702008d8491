"""Cost of a norm in parameters, running tables, and time, with one long document too."""

from __future__ import annotations

import random
import time
from statistics import median
from typing import TYPE_CHECKING

from torch.nn import functional as F

from seqnorm.datasets import TextBatch
from seqnorm.models import TextClassifier
from seqnorm.studies.study import Outcome
from seqnorm.studies.table import Setting
from seqnorm.studies.texts import Part, Texts

from .measures import tables_of

if TYPE_CHECKING:
    from .study import DynamicNetwork


def cost_of(study: DynamicNetwork, setting: Setting, texts: Texts) -> Outcome:
    """Measure a training step on a random batch with the longest document, cut and whole.

    The other documents are cut. The times depend on the machine. They are a curve over the length
    of the batch's longest document. Numbers that are the same on every machine are values.
    """
    part, steps, batch = texts.train, study.steps, study.batch

    def make(max_steps: int) -> TextClassifier:
        return study.model({**setting, "pooling": study.poolings[0]}, texts, max_steps)

    longest = max(range(len(part)), key=part.lengths.__getitem__)
    rest = [i for i in range(len(part)) if i != longest]
    others = random.Random(setting["seed"]).sample(rest, batch - 1)
    short = part.head(steps).batch([longest, *others])
    tokens = [part.tokens[longest], *(part.tokens[i][:steps] for i in others)]
    long = Part(tokens, [part.labels[i] for i in (longest, *others)]).batch(range(batch))
    length = len(tokens[0])
    values: dict[str, float] = {
        "padded_bytes": 4.0 * batch * length * make(1).embedding.embedding_dim,
        "alone_long": (length - max(map(len, tokens[1:]))) / sum(map(len, tokens)),
    }
    model = make(length).train()
    taken = [timed(model, short) for _ in range(study.repeats + 1)]
    seconds = [(float(steps), median(taken[1:]))]  # the first one warms up
    model = make(length).train()
    seconds.append((float(length), timed(model, long)))
    tables = tables_of(model).values()
    values["parameters"] = float(sum(p.numel() for p in model.recurrent.parameters()))
    kept = sum(t.running_mean.numel() + t.running_var.numel() for t in tables)
    values["table_bytes"] = 4.0 * kept
    if tables:
        values["updated_steps"] = float(max(int((t.count > 0).sum()) for t in tables))
    return Outcome(values, {"seconds": seconds})


def timed(model: TextClassifier, batch: TextBatch) -> float:
    """Measure the seconds of a forward and a backward pass."""
    model.zero_grad()
    start = time.perf_counter()
    F.cross_entropy(model(batch.tokens, batch.lengths), batch.labels).backward()
    return time.perf_counter() - start
