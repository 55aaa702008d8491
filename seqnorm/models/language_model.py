"""A language model: embedding, recurrent layers, and the embedding once more as the output.

Axes: B sequences, T tokens, N valid tokens of a batch, E features of an embedding, H of a step,
V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from seqnorm.nn import compute_in_chunks, preset
from seqnorm.nn.check import check_probability, choose
from seqnorm.nn.layers.cells import LAYERS
from seqnorm.nn.statistics.masks import valid_mask
from seqnorm.typed import called_as

CELLS = {name.lower(): name for name in LAYERS}
# Of every layer the parts of its state, (1, B, H) each.
LayerStates = list[tuple[Tensor, ...]]
# Rows of which the logits (., V) are there at once, where none are kept for a backward pass.
_ROWS = 4096


class LanguageModel(nn.Module):
    """Says what token comes next, after each token of a text (Merity et al. 2018, AWD-LSTM).

    With the embedding matrix W (V, E), tokens w_1, w_2, ... and recurrent layers R::

        h_t            = R(W[w_t], h_(t-1))
        p(w_(t+1) = v) = softmax_v(W h_t + b)       (tied: the same W; else a matrix of its own)

    Padding is never predicted: its probability is 0.

    *Time steps.* A call takes a batch of sequences and the states in which they begin, so a text
    may come whole, or cut into pieces of which each begins in the state that the one before ended
    in. Everything but BatchNorm of every time step computes the same either way. That norm counts
    steps: given whole documents, or their pieces with ``start``, step k is the k-th token of a
    document, and its statistics are those of documents still running there. Given windows of a
    stream, each from step 0 on, step k is the k-th token of a window, any place of the text, so
    that all steps have much the same statistics, each taken from B rows. Such a model must be used
    on windows of the length that it was trained on.

    Args:
        vocab_size: V.
        cell: lstm, gru, rnn, ligru, indrnn or slstm.
        norm: normalisation of the recurrent layers: layer, rms, batch, batch_pooled, the name of a
            published preset, or null for none.
        norm_options: what is to be otherwise in that norm, fields of ``seqnorm.Norm`` and of
            ``seqnorm.NormScheme``: eps, gain, max_steps, min_count, beyond, cell_state, ...
        embedding_size: E.
        hidden_size: H of all recurrent layers, but of the last one E if the weights are tied.
        num_layers: recurrent layers.
        tied: whether the output's matrix is the embedding's (Inan et al. 2017, Press & Wolf 2017).
        word_dropout: probability that a token of the vocabulary is left out of the input for a
            whole batch, wherever it stands (embedding dropout; Gal & Ghahramani 2016, sec. 4.2).
        embedding_dropout: probability that a feature of the embeddings is zero, one draw for all
            steps of a sequence (variational dropout; Gal & Ghahramani 2016, eq. 7).
        layer_dropout: the same between recurrent layers.
        output_dropout: the same of what the last layer gives.
        weight_drop: probability that a recurrent weight is zero for a whole batch (Merity et al.
            2018, sec. 2).
        zoneout: probability that a unit keeps its state over a step (Krueger et al. 2017), of an
            LSTM also a pair for (h, c).
        chunk: most time steps that layers compute at once, null for all; see
            ``seqnorm.compute_in_chunks``.
        recompute: whether training computes a chunk, and the probabilities, once more for the
            backward pass instead of keeping what it needs: less memory for a third more time.
        pad_id: the token of padding.

    Raises:
        ValueError: an unknown cell or norm; options of no norm; a probability outside [0, 1];
            dropout between layers where there is one layer; a pair of zoneout for another cell than
            an LSTM; a chunk below 1, or none to recompute.
        TypeError: an unknown norm option.
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
        choose("cell", cell, CELLS)
        if norm is None and norm_options:
            raise ValueError(
                f"norm_options {norm_options} without a norm: choose one, as layer, or leave them "
                "out"
            )
        for name, p in (
            ("word_dropout", word_dropout),
            ("embedding_dropout", embedding_dropout),
            ("layer_dropout", layer_dropout),
            ("output_dropout", output_dropout),
        ):
            check_probability(name, p)
        if layer_dropout > 0 and num_layers == 1:
            raise ValueError(
                f"layer_dropout={layer_dropout} stands between recurrent layers, and num_layers=1: "
                "write output_dropout, or more layers"
            )
        self.pad_id = pad_id
        self.word_dropout = word_dropout
        self.embedding_dropout = embedding_dropout
        self.layer_dropout = layer_dropout
        self.output_dropout = output_dropout
        scheme = None if norm is None else preset(norm, CELLS[cell], **(norm_options or {}))
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=pad_id)
        last = embedding_size if tied else hidden_size
        sizes = [embedding_size, *[hidden_size] * (num_layers - 1), last]
        keeps: Any = zoneout  # a pair is an LSTM's alone, and the others refuse it
        # One module a layer, for they differ in size, and dropout of a kind of its own is between.
        self.layers = nn.ModuleList(
            LAYERS[CELLS[cell]](
                sizes[layer],
                sizes[layer + 1],
                batch_first=True,
                norm=scheme,
                zoneout=keeps,
                recurrent_dropout=weight_drop,
            )
            for layer in range(num_layers)
        )
        self.decoder = nn.Linear(last, vocab_size)
        if tied:
            self.decoder.weight = self.embedding.weight
        if recompute and chunk is None:
            raise ValueError("recompute is of chunks: say how many steps one has, as chunk 256")
        self.recompute = recompute
        compute_in_chunks(self, chunk, recompute=recompute)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices of input and output from U(-0.1, 0.1), with bias 0, and all layers."""
        with torch.no_grad():
            self.decoder.weight.uniform_(-0.1, 0.1)
            self.embedding.weight.uniform_(-0.1, 0.1)[self.pad_id] = 0.0
            self.decoder.bias.zero_()
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]  # a ModuleList knows no types

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        states: LayerStates | None = None,
        start: int = 0,
    ) -> tuple[Tensor, LayerStates]:
        """Logits (B, T, V) of what follows each of ``tokens`` (B, T), and the states at the end.

        Of each sequence ``lengths`` (B,) are valid (None: all). Tokens past that, whatever their
        values, change nothing, and the logits there mean nothing. ``states`` are those in which
        the sequences begin, as an earlier call gave them (None: zeros), and ``start`` the steps
        that BatchNorm is to count from; no gradient is cut.
        """
        output, states = self._layers(tokens, lengths, states, start)
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
        start: int = 0,
    ) -> tuple[Tensor, LayerStates]:
        """-log p of every valid target (N,), in nats, and the states at the end.

        The targets (B, T) of the first sequence come first. A target is what follows the token of
        its place. Their mean is the loss, and exp of it the perplexity.
        """
        output, states = self._layers(tokens, lengths, states, start)
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
        """At most ``length`` tokens that go on from ``prompt``, drawn one after the other.

        Of the logits a token is drawn from softmax(logits / temperature). The model is to be in
        inference mode.

        Args:
            prompt: at least one token, as the end of the text before.
            length: most tokens.
            generator: where chance comes from, on the model's device.
            window: length of the windows that the text is read in, None for one window. It matters
                to BatchNorm of every time step alone (see the class).
            temperature: above 0; the lower, the more probable are the tokens drawn.
            top_k: draw from the k most probable tokens; 1 always takes the most probable.
            never: tokens that are not drawn.
            stop: the token after which the text ends; it is not returned.

        Raises:
            ValueError: an empty prompt, or a temperature, top_k or window out of range.
        """
        if not prompt:
            raise ValueError("a text goes on from one token at least, its beginning, got none")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}; see top_k=1")
        for name, value in (("top_k", top_k), ("window", window)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 or None, got {value}")
        text = list(prompt)
        states: LayerStates | None = None
        read = step = 0  # tokens read, of them in this window
        while len(text) < len(prompt) + length:
            piece = text[read:] if window is None else text[read : read + window - step]
            tokens = torch.tensor([piece], device=self.decoder.weight.device)
            output, states = self._layers(tokens, None, states, step)
            read, step = read + len(piece), step + len(piece)
            if step == window:
                step = 0
            if read < len(text):
                continue
            logits = self._logits(output[0, -1]).double() / temperature
            logits[list(never)] = -torch.inf
            if top_k is not None and top_k < len(logits):
                kept = logits.topk(top_k).indices
                logits = torch.full_like(logits, -torch.inf).index_copy(0, kept, logits[kept])
            drawn = int(torch.multinomial(logits.softmax(0), 1, generator=generator))
            if drawn == stop:
                break
            text.append(drawn)
        return text[len(prompt) :]

    def _layers(
        self, tokens: Tensor, lengths: Tensor | None, states: LayerStates | None, start: int
    ) -> tuple[Tensor, LayerStates]:
        """What the last layer gives (B, T, H), after dropout."""
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
                (before,) = before  # a cell whose state is h alone
            output, found = layer(output, before, lengths=lengths, first_step=start)
            after.append((found,) if isinstance(found, Tensor) else tuple(found))
        return self._locked_dropout(output, self.output_dropout), after

    def _locked_dropout(self, x: Tensor, p: float) -> Tensor:
        """x (B, T, F) times a mask (B, 1, F)."""
        if not self.training or p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), p)

    def _logits(self, rows: Tensor) -> Tensor:
        """(..., H) to (..., V)."""
        # Not a call of the module, whose hooks of the way back forbid to write into what it gives.
        logits = F.linear(rows, self.decoder.weight, self.decoder.bias)
        logits[..., self.pad_id] = -torch.inf
        return logits
