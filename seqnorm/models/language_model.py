"""A language model: embedding, recurrent layers, and the embedding again as the output matrix.

Axes: B sequences, T tokens, N valid tokens of a batch, E features of an embedding, H features of a
step, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seqnorm.nn import compute_in_chunks
from seqnorm.nn.check import check_probability
from seqnorm.nn.recurrence.windows import refuse_window
from seqnorm.nn.statistics.masks import valid_mask
from seqnorm.typed import called_as

from .drawing import draw
from .recurrent import layer_maker

# For every layer, the tensors (1, B, H) of its state.
LayerStates = list[tuple[Tensor, ...]]
# Number of rows whose logits (., V) are computed at once.
_ROWS = 4096


class LanguageModel(nn.Module):
    """Predict the next token after each token of a text (Merity et al. 2018, AWD-LSTM).

    With the embedding matrix W (V, E), tokens w_1, w_2, ... and recurrent layers R::

        h_t            = R(W[w_t], h_(t-1))
        p(w_(t+1) = v) = softmax_v(W h_t + b)       (tied: the same W; else a matrix of its own)

    Padding is never predicted: its probability is 0.

    *Time steps.* A call takes a batch of sequences and their initial states, so a text may be
    passed as a whole or in pieces, each with the final state of the piece before. The results are
    the same either way, except with BatchNorm of every time step, which counts steps. With whole
    documents, or their pieces and ``start``, step k is the k-th token of a document, and its
    statistics are those of the documents with at least k tokens. The same holds for windows of a
    stream with ``resets`` where documents begin. With windows of a stream without ``resets``, each
    from step 0 on, step k is the k-th token of a window and any token of the text. All steps then
    have similar statistics, each from B rows, and the model must be used on windows of the length
    that it was trained on.

    Args:
        vocab_size: The number of tokens in the vocabulary, V.
        cell: The kind of recurrent layer: lstm, gru, rnn, ligru, indrnn or slstm.
        norm: The normalisation of the recurrent layers: layer, rms, batch, batch_pooled, the name
            of a published preset, or null for no norm.
        norm_options: The changes to that norm: the fields of ``seqnorm.Norm`` and
            ``seqnorm.NormScheme``, as eps, gain, max_steps, min_count, beyond or cell_state.
        embedding_size: The number of features of an embedding, E.
        hidden_size: The number of features of every recurrent layer, H. With tied weights the last
            layer has E features instead.
        num_layers: The number of recurrent layers.
        tied: Use the matrix of the embedding for the output too (Inan et al. 2017, Press & Wolf
            2017).
        word_dropout: The probability that a token of the vocabulary is left out of the input for a
            whole batch, wherever it occurs (embedding dropout; Gal & Ghahramani 2016, sec. 4.2).
        embedding_dropout: The probability that a feature of the embeddings is zero, with one draw
            for all steps of a sequence (variational dropout; Gal & Ghahramani 2016, eq. 7).
        layer_dropout: The probability of variational dropout between recurrent layers.
        output_dropout: The probability of variational dropout of the output of the last layer.
        weight_drop: The probability that a recurrent weight is zero for a whole batch (Merity et
            al. 2018, sec. 2).
        zoneout: The probability that a unit keeps its state over a step (Krueger et al. 2017); for
            an LSTM also a pair for (h, c).
        chunk: The number of time steps that the layers compute at once, or null for all; see
            ``seqnorm.compute_in_chunks``.
        recompute: Recompute chunks and probabilities in the backward pass of training, instead of
            keeping intermediate results. It needs less memory and a third more time.
        pad_id: The padding token.

    Raises:
        ValueError: The cell or norm is unknown; options are given without a norm; a probability is
            outside [0, 1]; layer_dropout is given for one layer; a pair of zoneout is given for
            another cell than an LSTM; the chunk is below 1, or missing with ``recompute``.
        TypeError: A norm option is unknown.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        cell: str = "lstm",
        norm: str | None = "layer",
        norm_options: dict[str, Any] | None = None,
        embedding_size: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        tied: bool = True,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        output_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        chunk: int | None = None,
        recompute: bool = False,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        make_layer = layer_maker(cell, norm, norm_options)
        check_probability("word_dropout", word_dropout)
        check_probability("embedding_dropout", embedding_dropout)
        check_probability("layer_dropout", layer_dropout)
        check_probability("output_dropout", output_dropout)
        if layer_dropout > 0 and num_layers == 1:
            raise ValueError(
                f"layer_dropout={layer_dropout} acts between recurrent layers, but num_layers=1: "
                "use output_dropout or more layers"
            )
        self.pad_id = pad_id
        self.word_dropout = word_dropout
        self.embedding_dropout = embedding_dropout
        self.layer_dropout = layer_dropout
        self.output_dropout = output_dropout
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=pad_id)
        last = embedding_size if tied else hidden_size
        sizes = [embedding_size, *[hidden_size] * (num_layers - 1), last]
        # One module for each layer: they differ in size, with variational dropout between them.
        self.layers = nn.ModuleList(
            make_layer(*sizes[n : n + 2], zoneout=zoneout, recurrent_dropout=weight_drop)
            for n in range(num_layers)
        )
        self.decoder = nn.Linear(last, vocab_size)
        if tied:
            self.decoder.weight = self.embedding.weight
        if recompute and chunk is None:
            raise ValueError(
                "recompute needs chunks: give their number of steps, such as chunk 256"
            )
        self.recompute = recompute
        compute_in_chunks(self, chunk, recompute=recompute)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw input and output matrices from U(-0.1, 0.1), with bias 0, and reset all layers."""
        with torch.no_grad():
            self.decoder.weight.uniform_(-0.1, 0.1)
            self.embedding.weight.uniform_(-0.1, 0.1)[self.pad_id] = 0.0
            self.decoder.bias.zero_()
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]  # a ModuleList has no element type

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        states: LayerStates | None = None,
        start: int | Tensor = 0,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, LayerStates]:
        """Return logits (B, T, V) of the token after each of ``tokens`` (B, T), and final states.

        The first ``lengths`` (B,) tokens of each sequence are valid (None: all). Further tokens
        change nothing, whatever their values, and their logits mean nothing. ``states`` are the
        initial states, as returned by an earlier call (None: zeros), and ``start`` is the number of
        the first step for BatchNorm, of all sequences or (B,) of each. ``resets`` (B, T) are true
        where a text begins anew, from the initial state. Gradients flow through ``states``.
        """
        output, states = self._layers(tokens, lengths, states, start, resets)
        return self._logits(output), states

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def surprisal(
        self,
        tokens: Tensor,
        targets: Tensor,
        lengths: Tensor,
        states: LayerStates | None = None,
        start: int | Tensor = 0,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, LayerStates]:
        """Return -log p (N,) of every valid target, in nats, and the final states.

        The targets (B, T) of the first sequence come first. A target is the token that follows the
        input token at its place. The mean of the result is the loss, and its exp the perplexity.
        """
        output, states = self._layers(tokens, lengths, states, start, resets)
        valid = valid_mask(lengths.to(tokens.device), tokens.shape[1])
        pieces = zip(output[valid].split(_ROWS), targets[valid].split(_ROWS))
        if self.recompute and torch.is_grad_enabled():
            nats = [checkpoint(self._nats, *piece, use_reentrant=False) for piece in pieces]
        else:
            nats = [self._nats(*piece) for piece in pieces]
        return torch.cat(nats), states

    def _nats(self, rows: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(rows), targets, reduction="none")

    @torch.no_grad()
    def generate(
        self,
        prompt: Sequence[int],
        length: int,
        *,
        generator: torch.Generator,
        window: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        never: Sequence[int] = (),
        stop: int | None = None,
    ) -> list[int]:
        """Draw at most ``length`` tokens that continue ``prompt``, one after the other.

        Each token is drawn from softmax(logits / temperature). Call eval() before.

        Args:
            prompt: The tokens to continue, at least one, such as the end of the text before.
            length: The largest number of tokens.
            generator: The random number generator, on the model's device.
            window: The length of the windows in which the text is read; None for one window. It
                matters only to BatchNorm of every time step (see the class).
            temperature: The temperature of the softmax, above 0. With a lower temperature, more
                probable tokens are drawn.
            top_k: Draw from the k most probable tokens; 1 always takes the most probable one.
            never: The tokens that are not drawn.
            stop: The token at which the text ends; it is not returned.

        Raises:
            ValueError: The prompt is empty; temperature, top_k or window is out of range; or a norm
                takes the statistics of several steps.
        """
        layer: Any
        for layer in self.layers:
            refuse_window(
                layer.norm, "a text is drawn by calls of one step", "build it without window"
            )

        def read(piece: Tensor, states: Any, step: int) -> tuple[Tensor, LayerStates]:
            output, after = self._layers(piece[None], None, states, step)
            return self._logits(output[0, -1]), after

        return draw(
            read,
            prompt,
            length,
            generator=generator,
            window=window,
            temperature=temperature,
            top_k=top_k,
            never=never,
            stop=stop,
        )

    def _layers(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        states: LayerStates | None,
        start: int | Tensor,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, LayerStates]:
        """Return the output (B, T, H) of the last layer, after dropout, and the final states."""
        if lengths is not None:
            valid = valid_mask(lengths.to(tokens.device), tokens.shape[1])
            tokens = tokens.masked_fill(~valid, self.pad_id)
        output = self.embedding(tokens)
        if self.training and self.word_dropout > 0:
            ones = output.new_ones(self.embedding.num_embeddings, 1)
            output = output * F.dropout(ones, self.word_dropout)[tokens]
        output = self._locked_dropout(output, self.embedding_dropout)
        after: LayerStates = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                output = self._locked_dropout(output, self.layer_dropout)
            before: Any = None if states is None else states[number]
            if before is not None and len(before) == 1:
                (before,) = before  # the state of the cell is h alone
            output, found = layer(output, before, lengths=lengths, first_step=start, resets=resets)
            after.append((found,) if isinstance(found, Tensor) else tuple(found))
        return self._locked_dropout(output, self.output_dropout), after

    def _locked_dropout(self, x: Tensor, p: float) -> Tensor:
        """Multiply x (B, T, F) by a random mask (B, 1, F)."""
        if not self.training or p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), p)

    def _logits(self, rows: Tensor) -> Tensor:
        """Map rows (..., H) to logits (..., V)."""
        # With backward hooks, a call of the module would forbid the in-place write below.
        logits = F.linear(rows, self.decoder.weight, self.decoder.bias)
        logits[..., self.pad_id] = -torch.inf
        return logits
