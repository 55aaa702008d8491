"""A text classifier: embedding, recurrent layers, pooling, linear head, TF-IDF beside them.

Axes: B documents, T tokens, E features of an embedding, H features of a step, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqnorm.nn.statistics.masks import check_lengths, valid_mask
from seqnorm.typed import called_as

from .long_documents import check_inference, is_streamed, layers_in_chunks, pool
from .pooling import Pooling
from .recurrent import layer_maker
from .tfidf import TfidfClassifier


class TextClassifier(nn.Module):
    """Classify documents given as padded token ids.

    Args:
        vocab_size: The number of tokens in the vocabulary.
        num_classes: The number of classes, C.
        cell: The kind of recurrent layer: lstm, gru, rnn, ligru, indrnn or slstm.
        norm: The normalisation of the recurrent layers: layer, rms, batch, batch_pooled, the name
            of a published preset, or null for no norm.
        norm_options: The changes to that norm: the fields of ``seqnorm.Norm`` and
            ``seqnorm.NormScheme``, as eps, gain, max_steps, min_count, beyond or cell_state. The
            default gain is 0.1, also for LayerNorm: gates that are nearly linear at first overfit
            less than with the published gain of 1.
        embedding_size: The number of features of an embedding, E.
        embedding_std: The initial standard deviation of the embeddings. Small embeddings learn rare
            words more slowly and overfit less.
        hidden_size: The number of features of one direction.
        num_layers: The number of recurrent layers.
        bidirectional: Read every document in both directions.
        pooling: The pooling over the steps: last, mean, max, attention, or several joined by +, as
            in mean+max.
        pool_embeddings: Pool the embeddings too, and concatenate them with the pooled outputs. The
            head then reads the words beside their contexts (after Lai et al. 2015).
        word_dropout: The probability that training replaces a token by the unknown token, whose
            embedding is trained in this way.
        embedding_dropout: The dropout probability of single features of the embeddings.
        layer_dropout: The dropout probability between recurrent layers.
        recurrent_dropout: The probability that a recurrent weight is zero for a whole batch.
        zoneout: The probability that a unit keeps its state over a step; for an LSTM also a pair
            for (h, c).
        dropout: The dropout probability of the pooled vector, before the linear head.
        read: The number of tokens at the beginning of a document that the recurrent layers read;
            null for all.
        crop: In training the recurrent layers read so many of these tokens, a random window of each
            document; null for all.
        wide: Add the logits of a linear classifier of TF-IDF features, which sees the words of the
            whole document and not their order (Cheng et al. 2016, "Wide & Deep"); see
            ``seqnorm.models.TfidfClassifier``.
        pad_id: The padding token, whose embedding stays zero.
        unk_id: The unknown token.

    Raises:
        ValueError: The cell, norm or pooling is unknown; options are given without a norm; a
            probability is outside [0, 1]; a pair of zoneout is given for another cell than an LSTM;
            ``read`` or ``crop`` is below 1.
        TypeError: A norm option is unknown.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        cell: str = "lstm",
        norm: str | None = "layer",
        norm_options: dict[str, Any] | None = None,
        embedding_size: int = 200,
        embedding_std: float = 0.1,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "mean+max",
        pool_embeddings: bool = True,
        word_dropout: float = 0.3,
        embedding_dropout: float = 0.4,
        layer_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        dropout: float = 0.5,
        read: int | None = None,
        crop: int | None = None,
        wide: bool = False,
        pad_id: int = 0,
        unk_id: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= word_dropout <= 1:
            raise ValueError(f"word_dropout must be a probability from 0 to 1, got {word_dropout}")
        for name, value in (("read", read), ("crop", crop)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 token, or null for all, got {value}")
        self.pad_id = pad_id
        self.unk_id = unk_id
        self.read = read
        self.crop = crop
        self.word_dropout = word_dropout
        self.embedding_std = embedding_std
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=pad_id)
        with torch.no_grad():
            self.embedding.weight.normal_(0.0, embedding_std)[pad_id] = 0.0
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        layers = layer_maker(cell, norm, norm_options, gain=0.1)
        self.recurrent = layers(
            embedding_size,
            hidden_size,
            num_layers,
            dropout=layer_dropout,
            bidirectional=bidirectional,
            zoneout=zoneout,
            recurrent_dropout=recurrent_dropout,
        )
        self.pooling = Pooling(pooling, hidden_size * (1 + bidirectional), bidirectional)
        features = self.pooling.output_size
        self.embedding_pooling: Pooling | None = None
        if pool_embeddings:
            self.embedding_pooling = Pooling(pooling, embedding_size)
            features += self.embedding_pooling.output_size
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, num_classes)
        self.wide: TfidfClassifier | None = None
        if wide:
            self.wide = TfidfClassifier(vocab_size, num_classes, ignored=(pad_id, unk_id))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return class logits (B, C) of ``tokens`` (B, T), of which ``lengths`` (B,) are valid.

        Tokens past a document's length change nothing, whatever their values. A document of
        length 0 is classified by the bias of the head.
        """
        deep, wide = self.parts(tokens, lengths)
        return deep if wide is None else deep + wide

    def parts(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits (B, C) of the recurrent layers, and of TF-IDF or None, apart."""
        wide = None if self.wide is None else self.wide(tokens, lengths)
        return self._deep(*self._window(tokens, lengths)), wide

    def _window(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens that the recurrent layers read, and their numbers."""
        if self.read is not None:
            tokens, lengths = tokens[:, : self.read], lengths.clamp(max=self.read)
        if self.crop is None or not self.training or tokens.shape[1] <= self.crop:
            return tokens, lengths
        free = (lengths - self.crop).clamp(min=0).to(tokens.device)
        first = (torch.rand(len(free), device=free.device) * (free + 1)).long()
        places = first[:, None] + torch.arange(self.crop, device=tokens.device)
        return tokens.gather(1, places), lengths.clamp(max=self.crop)

    def _deep(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (B, C) of the recurrent layers."""
        if tokens.shape[1] == 0:
            tokens = F.pad(tokens, (0, 1), value=self.pad_id)
        valid = valid_mask(lengths.to(tokens.device), tokens.shape[1])
        tokens = tokens.masked_fill(~valid, self.pad_id)
        if self.training and self.word_dropout > 0:
            dropped = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
            tokens = tokens.masked_fill(dropped & valid, self.unk_id)
        embedded = self.embedding_dropout(self.embedding(tokens))
        output, _ = self.recurrent(embedded, lengths=lengths)
        pooled = self.pooling(output, lengths)
        if self.embedding_pooling is not None:
            pooled = torch.cat([pooled, self.embedding_pooling(embedded, lengths)], -1)
        return self.head(self.dropout(pooled))  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    @torch.no_grad()
    def in_chunks(self, tokens: Tensor, lengths: Tensor, steps: int = 4096) -> Tensor:
        """Compute the same logits as ``forward``, up to rounding, for documents of any length.

        The documents are read ``steps`` tokens at a time, carrying the state, and pooled on the
        way. Apart from ``tokens``, memory does not grow with T. A bidirectional layer reads every
        document twice. Several bidirectional layers, or one with attention, need all outputs at
        once, which are then kept: (B, T, 2 H) for each layer.

        Raises:
            ValueError: The model is in training mode, or ``steps`` is below 1.
        """
        check_inference(self, steps)
        if len(tokens) == 0:
            return self(tokens, lengths)
        if not is_streamed(self.recurrent, self.pooling):
            with layers_in_chunks(self.recurrent, steps):
                return self(tokens, lengths)
        lengths = check_lengths(lengths, *tokens.shape).to(tokens.device)
        wide = None if self.wide is None else self.wide(tokens, lengths)
        tokens, lengths = self._window(tokens, lengths)

        def read(places: Tensor) -> Tensor:
            found = tokens.gather(1, places).masked_fill((lengths == 0)[:, None], self.pad_id)
            return self.embedding(found)  # type: ignore[no-any-return]

        if tokens.shape[1] == 0:
            tokens = F.pad(tokens, (0, 1), value=self.pad_id)
        pooling = self.pooling, self.embedding_pooling
        deep: Tensor = self.head(pool(self.recurrent, *pooling, read, lengths, steps))
        return deep if wide is None else deep + wide
