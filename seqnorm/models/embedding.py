"""Word vectors from the co-occurrences of a corpus, to initialise an embedding.

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
    """Compute vectors (V, E) in which tokens with similar contexts are close to each other.

    They are U sqrt(S) of a truncated singular value decomposition of the positive pointwise mutual
    information of pairs at most ``window`` tokens apart. A pair at distance k has the weight 1/k,
    and contexts are smoothed with the exponent 0.75 (Levy, Goldberg & Dagan 2015, sec. 3). No text
    other than ``documents`` is used.

    Args:
        documents: The token ids of every training document.
        std: The root mean square to which the vectors are scaled.
        reserved: The number of the first tokens (padding, unknown), whose vectors are zero.
        seed: The seed of the randomised decomposition.

    Raises:
        ValueError: No two tokens stand near each other in any document.
    """
    counts = _cooccurrences(documents, vocab_size, window)
    (row, column), value = counts.indices(), counts.values()
    of_row = value.new_zeros(vocab_size).index_add_(0, row, value)
    smoothed = of_row**0.75
    pmi = (value / of_row[row] / (smoothed[column] / smoothed.sum())).log()
    kept = (pmi > 0) & (row >= reserved) & (column >= reserved)
    if not kept.any():
        raise ValueError(
            "no two words stand near each other in any document: start from random vectors instead"
        )
    ppmi = torch.sparse_coo_tensor(
        torch.stack([row[kept], column[kept]]),
        pmi[kept].float(),
        (vocab_size, vocab_size),
        device="cpu",
        check_invariants=True,
    ).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed GPUs
        u, s, _ = torch.svd_lowrank(ppmi, q=min(embedding_size + 10, vocab_size), niter=4)
    # A small vocabulary spans fewer than E dimensions, and the other features stay zero.
    vectors = torch.zeros(vocab_size, embedding_size, device="cpu")
    found = (u * s.sqrt())[:, :embedding_size]
    vectors[reserved:, : found.shape[1]] = found[reserved:]
    return vectors * (std / vectors[reserved:].square().mean().sqrt())


def _cooccurrences(documents: Sequence[Sequence[int]], vocab_size: int, window: int) -> Tensor:
    """Return symmetric weighted counts (V, V), sparse float64."""
    # Documents are joined with a gap of `window` tokens, so that no pair spans two of them.
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
