"""The public layers: ``LSTM`` and ``GRU``.

Axes: T steps, B sequences, N packed rows, I = input_size, H = hidden_size, P = size of h (H, or
proj_size), L = num_layers, D = directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .convert import adopt, release
from .recurrent import Recurrent
from .reporting import Report, report
from .scheme import NormScheme


class LSTM(Recurrent):
    """``torch.nn.LSTM`` with normalisation inside the recurrence, and with lengths.

    With gates i, f, g, o stacked in this order in W_ih (4H, I) and W_hh (4H, P)::

        a   = N(W_ih x_t) + N(W_hh h_(t-1)) + b
        c_t = sigmoid(f) * c_(t-1) + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(N(c_t))              (times W_hr (P, H) with proj_size)

    ``norm`` says what N is and where it stands: ``None`` (torch's LSTM), "layer" (Ba et al. 2016,
    eq. 20-22), "rms", "batch" (Cooijmans et al. 2017: statistics of every time step of their own,
    over the sequences still running there), "batch_pooled" (one set of statistics over all valid
    frames, on W_ih x only), the name of another published cell (see ``preset``), or a
    ``NormScheme``.

    Sequences of different length come as a ``PackedSequence`` or padded with ``lengths``. Padding
    enters nothing: no output, state, gradient or statistic. No steps at all (T = 0), which torch
    refuses, leave the state as it is. The backward direction of a
    bidirectional layer turns every sequence round within its own length, so its step k (for "batch"
    statistics) is the k-th that each sequence takes. A sequence of length 0 keeps its initial
    state.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype: as in ``torch.nn.LSTM``. A norm's own bias is not governed by ``bias``.
        norm: see above.
        zoneout: probability that a unit of h and c keeps its value of the step before (Krueger et
            al. 2017), or a pair for (h, c); inference takes the expectation. h_t is computed from
            the new c_t, and W_hr applied, before either is held back.
        recurrent_dropout: probability that an element of W_hh is zeroed, drawn once for each
            forward call and the same at all steps (weight drop; Merity et al. 2018).

    Parameters have torch's names and shapes (``weight_ih_l0``, ``weight_hh_l0_reverse``, ...); a
    scheme keeps those biases that it uses. Norms are submodules ``norm_ih_l0``, ``norm_hh_l0``,
    ``norm_sum_l0``, ``norm_cell_l0`` with ``weight``, ``bias`` and, for BatchNorm, ``table``.

    Raises:
        TypeError, ValueError: a size, probability or norm that means nothing, at construction.
    """

    _cell_name = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        pair = tuple(zoneout) if isinstance(zoneout, (tuple, list)) else (zoneout, zoneout)
        if len(pair) != 2:
            raise ValueError(f"zoneout is one probability or a pair for (h, c), got {zoneout!r}")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            norm,
            pair,
            recurrent_dropout,
        )

    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: None = None,
    ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...

    @overload
    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Run over whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with batch_first, (T, I), or a ``PackedSequence``.
            hx: (h_0 (L * D, B, P), c_0 (L * D, B, H)), without B for unbatched input; zeros if
                None.
            lengths: (B,) integers in 0..T in any order, for padded input.

        Returns:
            The outputs (T, B, D * P) of the last layer in the form of the input, zero in the
            padding, and (h_n, c_n) of every sequence's true last step.

        Raises:
            ValueError, RuntimeError: wrong shapes or dtypes, as torch raises them.
        """
        output, (h, c) = self._run(input, hx, lengths)
        return output, (h, c)

    @classmethod
    def from_torch(
        cls,
        layer: nn.LSTM,
        norm: str | NormScheme | None = None,
        *,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> LSTM:
        """A layer with the matrices and biases of a torch layer; norms start as a new layer's do.

        A scheme with fewer biases takes over their sum: in the vector it keeps, else in the bias of
        its norms.

        Raises:
            ValueError: the scheme has no place for the biases.
        """
        options = {"zoneout": zoneout, "recurrent_dropout": recurrent_dropout}
        return adopt(cls, layer, nn.LSTM, norm, **options)

    def to_torch(self) -> nn.LSTM:
        """The torch layer that computes the same.

        Raises:
            ValueError: there is none, for this layer has norms, zoneout or weight drop.
        """
        return release(self, nn.LSTM)

    def report(self) -> Report:
        """How many rows the running statistics of every step rest on."""
        return report(self)


class GRU(Recurrent):
    """``torch.nn.GRU`` with normalisation inside the recurrence, and with lengths.

    With gates r, z, n stacked in this order in W_ih (3H, I) and W_hh (3H, H), and the terms
    x = N(W_ih x_t) + b and h = N(W_hh h_(t-1)) + b'::

        r, z = sigmoid(x_rz + h_rz)
        n    = tanh(x_n + r * h_n)
        h_t  = z * h_(t-1) + (1 - z) * n

    ``norm``: ``None`` (torch's GRU), "layer" (Ba et al. 2016, eq. 26-28: r and z share their sets,
    n has its own), "rms", "batch", "batch_pooled", a published cell's name (see ``preset``), or a
    ``NormScheme``. Everything else is as in ``LSTM``; ``zoneout`` is one probability, there is no
    proj_size.
    """

    _cell_name = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | NormScheme | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
            norm,
            (zoneout,),
            recurrent_dropout,
        )

    @overload
    def forward(
        self, input: PackedSequence, hx: Tensor | None = None, lengths: None = None
    ) -> tuple[PackedSequence, Tensor]: ...

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Run over whole sequences; as ``LSTM.forward``, with h_0 and h_n alone."""
        output, (h,) = self._run(input, None if hx is None else (hx,), lengths)
        return output, h

    @classmethod
    def from_torch(
        cls,
        layer: nn.GRU,
        norm: str | NormScheme | None = None,
        *,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> GRU:
        """A layer with the matrices and biases of a torch layer; see ``LSTM.from_torch``.

        Where z takes the candidate (``update="write"``) its rows change sign, so that it means the
        same.
        """
        options = {"zoneout": zoneout, "recurrent_dropout": recurrent_dropout}
        return adopt(cls, layer, nn.GRU, norm, **options)

    def to_torch(self) -> nn.GRU:
        """The torch layer that computes the same; see ``LSTM.to_torch``."""
        return release(self, nn.GRU)

    def report(self) -> Report:
        """How many rows the running statistics of every step rest on."""
        return report(self)
