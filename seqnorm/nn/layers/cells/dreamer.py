"""DreamerGRUCell, the recurrence of DreamerV3: a GRU with a hidden layer and block-diagonal maps.

Axes: B sequences, I = input_size, E = embedding_size, H = hidden_size, P = H / heads.

This is a module of its own and no ``Step``, because its transition has two norms of different
sizes and more matrices than a step has. It has no form as a layer, because the input of a step of
DreamerV3 is drawn from the state before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....typed import called_as
from ...autocast import is_autocast
from ...check import check_eps, check_flag, check_positive
from ...recurrence.blocks import block_linear
from ...recurrence.scheme import Norm
from ...recurrence.site_norms import normalise_units
from ..arguments import check_heads, check_states, refuse_input
from ..resets import anew, check_resets


class DreamerGRUCell(nn.Module):
    """One step of the recurrence of DreamerV3 (Hafner et al. 2023, arXiv 2301.04104).

    The equations are those of the authors' code (danijar/dreamerv3, rssm.py, ``_core``), where the
    paper says only that a GRU has block-diagonal weights. With the embedded input x (B, I), the old
    state h (B, H), and W_hh (H, P) and W_g (3H, P) in blocks as in ``seqnorm.GRU``::

        e       = SiLU(RMS(W_e h + b_e))
        v       = SiLU(RMS(W_ih [e, x] + W_hh h + b_h))
        r, n, z = W_g v + b_g
        h       = sigmoid(z - 1) * tanh(sigmoid(r) * n) + (1 - sigmoid(z - 1)) * h

    RMS is RMSNorm over all E or H units, with a gain. All of h reaches every unit by way of e; the
    rest of the transition keeps the heads apart.

    The embeddings of the stochastic state and of the action, a linear map, RMSNorm and SiLU for
    each, are not part of the cell: x holds them side by side. The page on reinforcement learning
    shows them together. Dreamer's older recurrence is ``seqnorm.GRUCell(..., norm="dreamer")``.

    The parameters are ``weight_eh`` (E, H), ``weight_ih`` (H, E + I), ``weight_hh`` (H, P) and
    ``weight_gates`` (3H, P); ``bias_e``, ``bias_h`` and ``bias_gates``; ``gain_e`` and ``gain_h``.
    Matrices are drawn as in ``torch.nn.Linear``, and not from the authors' truncated normal
    distribution; biases begin with 0 and gains with 1. The rows of ``weight_gates`` are those of
    r, n and z, while the authors' kernel has the three gates of one block after another.

    Args:
        input_size: I.
        hidden_size: H, which the heads have to divide.
        bias: if false, there are no biases.
        heads: number of blocks.
        embedding_size: E; by default P, as in all sizes of the authors' models.
        eps: added to the mean squares.

    Raises:
        TypeError, ValueError: a size is invalid, or ``heads`` does not divide ``hidden_size``.
    """

    state_of_caller = True  # as that of every ``RecurrentCell``
    bias_e: nn.Parameter | None
    bias_h: nn.Parameter | None
    bias_gates: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        heads: int = 8,
        embedding_size: int | None = None,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = H = check_positive("hidden_size", hidden_size)
        self.heads = check_heads("heads", heads, H)
        P = H // self.heads
        known = P if embedding_size is None else embedding_size
        self.embedding_size = E = check_positive("embedding_size", known)
        self.bias = check_flag("bias", bias)
        check_eps(eps)
        self.norm = Norm("rms", bias=None, eps=eps)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.weight_eh, self.weight_ih = parameter(E, H), parameter(H, E + self.input_size)
        self.weight_hh, self.weight_gates = parameter(H, P), parameter(3 * H, P)
        self.gain_e, self.gain_h = parameter(E), parameter(H)
        for name, size in (("bias_e", E), ("bias_h", H), ("bias_gates", 3 * H)):
            self.register_parameter(name, parameter(size) if self.bias else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all matrices anew; biases become 0 and gains 1."""
        # A row of the hidden layer reads x, e and the units of its head.
        fan = {"weight_ih": self.weight_ih.shape[1] + self.weight_hh.shape[1]}
        fan["weight_hh"] = fan["weight_ih"]
        for name, value in self.named_parameters():
            if name.startswith("weight"):
                bound = 1.0 / math.sqrt(fan.get(name, value.shape[1]))
                nn.init.uniform_(value, -bound, bound)
            else:
                nn.init.constant_(value, float(name.startswith("gain")))

    def forward(
        self, input: Tensor, hx: Tensor | None = None, *, resets: Tensor | None = None
    ) -> Tensor:
        """Return the state (B, H) or (H,) after one step.

        Args:
            input: (B, I) or (I,), the embedded input.
            hx: (B, H) or (H,), the old state; zero if None.
            resets: (B,), or () for unbatched input: true where a sequence begins anew, so that its
                old state is zero. DreamerV3 also sets the stochastic state and the action of such
                a step to zero, before they are embedded.

        Raises:
            TypeError, ValueError: an argument is not of the right form.
        """
        h = self._state(input, hx)
        if resets is not None:
            batched = input.dim() == 2
            resets = check_resets(resets, tuple(input.shape[:-1]), "B," if batched else "")
            (h,) = anew((h,), (torch.zeros_like(h),), resets.to(h.device))
        x, old = (input, h) if input.dim() == 2 else (input.unsqueeze(0), h.unsqueeze(0))
        new = self._step(x, old)
        return new if input.dim() == 2 else new.squeeze(0)

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self) -> None: ...

    def _step(self, x: Tensor, h: Tensor) -> Tensor:
        e = self._activated(F.linear(h, self.weight_eh, self.bias_e), self.gain_e)
        # Under autocast the embedding is in another dtype than x may be.
        both = F.linear(torch.cat([e, x.to(e.dtype)], -1), self.weight_ih, self.bias_h)
        v = both + block_linear(h, self.weight_hh, None, self.heads)
        v = self._activated(v, self.gain_h)
        gates = block_linear(v, self.weight_gates, self.bias_gates, self.heads)
        r, n, z = gates.chunk(3, -1)
        n, z = (r.sigmoid() * n).tanh(), (z - 1.0).sigmoid()
        return (z * n + (1.0 - z) * h).to(h.dtype)

    def _activated(self, x: Tensor, gain: Tensor) -> Tensor:
        return F.silu(normalise_units(x, self.norm, (x.shape[-1],), gain, None))

    def _state(self, input: Tensor, hx: Tensor | None) -> Tensor:
        """Check the arguments and return the old state (B, H) or (H,)."""
        name = type(self).__name__
        if not isinstance(input, Tensor):
            refuse_input(name, input)
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input must be (B, I) or (I,) with I = {self.input_size}, got "
                f"{tuple(input.shape)}"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        if hx is not None:
            check_states(name, "h", (hx,))
            if tuple(hx.shape) != shape:
                wanted = f"{shape} for this input"
                raise ValueError(f"{name}: hx must be {wanted}, got {tuple(hx.shape)}")
        for what, given in (("input", input), ("hx", hx)):
            if given is None or given.dtype == self.weight_hh.dtype:
                continue
            if not is_autocast(input.device.type):
                raise TypeError(
                    f"{name}: {what} is {given.dtype} and the weights are {self.weight_hh.dtype}: "
                    "convert one to the other"
                )
        return input.new_zeros(shape, dtype=self.weight_hh.dtype) if hx is None else hx

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}, heads={self.heads}"
        shown += f", embedding_size={self.embedding_size}"
        return shown if self.bias else f"{shown}, bias=False"
