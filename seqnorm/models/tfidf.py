"""A linear classifier of TF-IDF features.

Axes: B documents, T tokens, V tokens of the vocabulary, C classes, N training documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.nn.statistics.masks import valid_mask
from seqnorm.typed import called_as


class TfidfClassifier(nn.Module):
    """Classify documents by the words in them, whatever the order of the words.

    If token v occurs n_v times in a document, and at least once in d_v of the N training
    documents::

        x_v    = (1 + log n_v) (1 + log((1 + N) / (1 + d_v)))    if n_v > 0, else 0
        logits = scale W x / ||x||

    These are the features of scikit-learn's ``TfidfVectorizer(sublinear_tf=True)``. W begins with
    zeros. Tokens outside the vocabulary and padding count for nothing.

    Args:
        vocab_size: The number of tokens in the vocabulary, V.
        num_classes: The number of classes, C.
        scale: The norm of the features. Gradients of W are proportional to it.
        ignored: The tokens that count for nothing.

    Attributes:
        weight: W (C, V).
        idf: The factors (V,) of the tokens, 1 until ``set_frequencies`` is called.
    """

    idf: Tensor

    def __init__(
        self, vocab_size: int, num_classes: int, *, scale: float = 5.0, ignored: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.scale = scale
        self.ignored = tuple(ignored)
        self.weight = nn.Parameter(torch.zeros(num_classes, vocab_size))
        self.register_buffer("idf", torch.ones(vocab_size))
        self._ignore()

    def set_frequencies(self, documents: Sequence[Sequence[int]]) -> None:
        """Set ``idf`` from the token ids of every training document."""
        counts = Counter(token for document in documents for token in set(document))
        found = torch.zeros(len(self.idf), dtype=torch.float64)
        if counts:
            found[list(counts)] = torch.tensor(list(counts.values()), dtype=torch.float64)
        self.idf.copy_(1 + ((1 + len(documents)) / (1 + found)).log())
        self._ignore()

    def _ignore(self) -> None:
        self.idf[list(self.ignored)] = 0.0

    def features(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return x / ||x|| (B, V) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid."""
        valid = valid_mask(lengths.to(tokens.device), tokens.shape[1])
        # In float32 at least: half precision cannot count beyond some hundred.
        dtype = torch.promote_types(self.idf.dtype, torch.float32)
        counts = torch.zeros(tokens.shape[0], len(self.idf), dtype=dtype, device=tokens.device)
        counts = counts.scatter_add(1, tokens.masked_fill(~valid, 0), valid.to(dtype))
        x = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0) * self.idf
        return F.normalize(x)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return class logits (B, C) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid.

        Tokens past a document's length change nothing, whatever their values. A document without a
        known token has zeros.
        """
        x = self.scale * self.features(tokens, lengths)
        return F.linear(x.to(self.weight.dtype), self.weight)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...
