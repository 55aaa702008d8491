"""Training of a classifier step by step, so that the study can look at it in between."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from seqnorm.datasets import BucketBatchSampler, TextDataset, collate


def look_steps(steps: int, looks: int) -> set[int]:
    """Return steps to look at: the last one, and others that are denser towards the start."""
    return {max(1, round(steps * ((look + 1) / looks) ** 2)) for look in range(looks)}


def train(
    model: nn.Module, documents: TextDataset, size: int, epochs: int, rate: float, seed: int
) -> Iterator[int]:
    """Train in random batches with Adam, its rate falling to 0 as a cosine.

    Yield the number of steps after every step. Order and dropout follow from the seed.
    """
    # Documents of one length are often of one class, so batches are drawn whatever the lengths.
    sampler = BucketBatchSampler(documents.lengths, batch_size=size, noise=math.inf, seed=seed)
    steps = epochs * len(sampler)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    torch.manual_seed(seed)
    step = 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            batch = collate([documents[index] for index in indices])
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            loss = F.cross_entropy(model(batch.tokens, batch.lengths), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            yield step
