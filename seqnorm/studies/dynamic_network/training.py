"""Training on documents."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from seqnorm.models import TextClassifier

from .data import Part, batches


def train(
    model: TextClassifier, part: Part, *, rate: float, epochs: int, batch: int, seed: int
) -> float:
    """Train with Adam on the cross-entropy, and return the mean loss of the last epoch."""
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
