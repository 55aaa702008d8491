"""A network for numeric series: projection, recurrent layers, pooling, linear head.

Axes: B series, T steps, F features of a step, H features of a recurrent layer, C outputs.
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


class SeriesClassifier(nn.Module):
    """Classify padded series of numbers, or predict targets from them.

    Args:
        num_features: The number of features of a step, F.
        num_outputs: The number of classes or of targets, C.
        cell: The kind of recurrent layer: lstm, gru, rnn, ligru, indrnn or slstm.
        norm: The normalisation of the recurrent layers: layer, rms, batch, batch_pooled, the name
            of a published preset, or null for no norm.
        norm_options: The changes to that norm: the fields of ``seqnorm.Norm`` and
            ``seqnorm.NormScheme``, as eps, gain, max_steps, min_count, beyond or cell_state.
        projection_size: The number of features of a linear projection of each step before the
            recurrent layers; null for no projection.
        hidden_size: The number of features of one direction.
        num_layers: The number of recurrent layers.
        bidirectional: Read every series in both directions.
        pooling: The pooling over the steps: last, mean, max, attention, or several joined by +, as
            in mean+max.
        input_dropout: The dropout probability of single features of a step, after the projection.
        layer_dropout: The dropout probability between recurrent layers.
        recurrent_dropout: The probability that a recurrent weight is zero for a whole batch.
        zoneout: The probability that a unit keeps its state over a step; for an LSTM also a pair
            for (h, c).
        dropout: The dropout probability of the pooled vector, before the linear head.

    Raises:
        ValueError: The cell, norm or pooling is unknown; a size is below 1; options are given
            without a norm; a probability is outside [0, 1]; a pair of zoneout is given for another
            cell than an LSTM.
        TypeError: A norm option is unknown.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        cell: str = "lstm",
        norm: str | None = "layer",
        norm_options: dict[str, Any] | None = None,
        projection_size: int | None = None,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "mean+max",
        input_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"num_features": num_features, "num_outputs": num_outputs}
        if projection_size is not None:
            sizes["projection_size"] = projection_size
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.projection: nn.Linear | None = None
        if projection_size is not None:
            self.projection = nn.Linear(num_features, projection_size)
        self.input_dropout = nn.Dropout(input_dropout)
        self.recurrent = layer_maker(cell, norm, norm_options)(
            num_features if projection_size is None else projection_size,
            hidden_size,
            num_layers,
            dropout=layer_dropout,
            bidirectional=bidirectional,
            zoneout=zoneout,
            recurrent_dropout=recurrent_dropout,
        )
        self.pooling = Pooling(pooling, hidden_size * (1 + bidirectional), bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.pooling.output_size, num_outputs)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return outputs (B, C) of ``values`` (B, T, F), of which ``lengths`` (B,) steps are valid.

        Values past the end of a series change nothing, even if they are NaN. The outputs of a
        series of length 0 are the bias of the head.
        """
        if values.shape[1] == 0:
            values = F.pad(values, (0, 0, 0, 1))
        valid = valid_mask(lengths.to(values.device), values.shape[1])
        x = values.masked_fill(~valid[..., None], 0)
        if self.projection is not None:
            x = self.projection(x)
        output, _ = self.recurrent(self.input_dropout(x), lengths=lengths)
        return self.head(self.dropout(self.pooling(output, lengths)))  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    @torch.no_grad()
    def in_chunks(self, values: Tensor, lengths: Tensor, steps: int = 4096) -> Tensor:
        """Compute the same outputs as ``forward``, up to rounding, for series of any length.

        The series are read ``steps`` steps at a time, carrying the state, and pooled on the way.
        Apart from ``values``, memory does not grow with T. A bidirectional layer reads every series
        twice. Several bidirectional layers, or one with attention, need all outputs at once, which
        are then kept: (B, T, 2 H) for each layer.

        Raises:
            ValueError: The model is in training mode, or ``steps`` is below 1.
        """
        check_inference(self, steps)
        if len(values) == 0 or values.shape[1] == 0:
            return self(values, lengths)
        if not is_streamed(self.recurrent, self.pooling):
            with layers_in_chunks(self.recurrent, steps):
                return self(values, lengths)
        lengths = check_lengths(lengths, *values.shape[:2]).to(values.device)

        def read(places: Tensor) -> Tensor:
            whole = places[..., None].expand(-1, -1, values.shape[2])
            x = values.gather(1, whole).masked_fill((lengths == 0)[:, None, None], 0)
            return x if self.projection is None else self.projection(x)

        pooled = pool(self.recurrent, self.pooling, None, read, lengths, steps)
        return self.head(pooled)  # type: ignore[no-any-return]
