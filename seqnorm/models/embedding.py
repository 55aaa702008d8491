"""Word vectors from a corpus's own co-occurrences, to start an embedding with.

Axes: V tokens of the vocabulary, E features of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def cooccurrence_embedding(
    documents: Sequence[Sequence[int]],
    vocab_size: int,
    embedding_size: int,
    *,
    window: int = 5,
    std: float = 0.1,
    reserved: int = 2,
    seed: int = 0,
) -> Tensor:
    """Vectors (V, E) in which tokens of like contexts are near each other.

    The positive pointwise mutual information of pairs at most ``window`` tokens apart, a pair at
    distance k weighing 1/k, contexts smoothed with exponent 0.75, factored by a truncated singular
    value decomposition, U sqrt(S) (Levy, Goldberg & Dagan 2015, sec. 3). No text but ``documents``
    enters.

    Args:
        documents: token ids of every training document.
        std: root mean square to which the vectors are scaled.
        reserved: the first tokens (padding, unknown), which get zeros.
        seed: of the randomised decomposition.

    Raises:
        ValueError: no two tokens stand near each other in any document.
    """
    counts = _cooccurrences(documents, vocab_size, window)
    (row, column), value = counts.indices(), counts.values()
    of_row = value.new_zeros(vocab_size).index_add_(0, row, value)
    smoothed = of_row**0.75
    pmi = (value / of_row[row] / (smoothed[column] / smoothed.sum())).log()
    kept = (pmi > 0) & (row >= reserved) & (column >= reserved)
    if not kept.any():
        raise ValueError(
            "no two words stand near each other in any document: start from drawn vectors instead"
        )
    ppmi = torch.sparse_coo_tensor(
        torch.stack([row[kept], column[kept]]),
        pmi[kept].float(),
        (vocab_size, vocab_size),
        device="cpu",
        check_invariants=True,
    ).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # alone: torch.manual_seed seeds GPUs too
        u, s, _ = torch.svd_lowrank(ppmi, q=min(embedding_size + 10, vocab_size), niter=4)
    vectors = torch.zeros(vocab_size, embedding_size, device="cpu")  # a small vocabulary spans less
    found = (u * s.sqrt())[:, :embedding_size]
    vectors[reserved:, : found.shape[1]] = found[reserved:]
    return vectors * (std / vectors[reserved:].square().mean().sqrt())


def _cooccurrences(documents: Sequence[Sequence[int]], vocab_size: int, window: int) -> Tensor:
    """Symmetric weighted counts (V, V), sparse float64."""
    # Documents end to end, `window` tokens apart, so that no pair spans two of them.
    gap = [-1] * window
    tokens = [token for document in documents for token in (*document, *gap)]
    text = torch.tensor(tokens, device="cpu")
    keys, weights = [], []
    for distance in range(1, window + 1):
        left, right = text[:-distance], text[distance:]
        valid = (left >= 0) & (right >= 0)
        key, times = (left[valid] * vocab_size + right[valid]).unique(return_counts=True)
        keys.append(key)
        weights.append(times.double() / distance)
    key, weight = torch.cat(keys), torch.cat(weights)
    index = torch.stack([key // vocab_size, key % vocab_size])
    shape = (vocab_size, vocab_size)
    options: Any = {"device": "cpu", "check_invariants": True}
    counts = torch.sparse_coo_tensor(index, weight, shape, **options)
    return (counts + counts.t()).coalesce()
