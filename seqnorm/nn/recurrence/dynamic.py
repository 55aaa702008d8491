"""Norms without statistics: tanh or erf of each element by itself.

Axes: F = features of a site.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..statistics.moments import affine, widen
from .scheme import Norm
from .site_norms import SiteNorm


def squash(x: Tensor, alpha: Tensor, shift: Tensor | None) -> Tensor:
    """Compute ``tanh(alpha * x)`` without a shift, or ``erf(alpha * x + shift)`` with one."""
    return torch.tanh(alpha * x) if shift is None else torch.erf(alpha * x + shift)


class DynamicSiteNorm(SiteNorm):
    """Dynamic Tanh or Derf of a row: no element depends on another, so S is empty.

    Its parameters are those of ``SiteNorm``, ``alpha`` (1,) and, for "dynamic_erf", ``shift`` (1,).
    """

    alpha: nn.Parameter
    shift: nn.Parameter | None
    own = ("alpha", "shift")

    def __init__(self, norm: Norm, features: int, hidden_size: int, **factory: Any) -> None:
        super().__init__(norm, features, hidden_size, **factory)
        self.alpha = nn.Parameter(torch.empty(1, **factory))
        shifted = norm.kind == "dynamic_erf"
        value = nn.Parameter(torch.empty(1, **factory)) if shifted else None
        self.register_parameter("shift", value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.alpha, self.norm.alpha)
        if self.shift is not None:
            nn.init.constant_(self.shift, self.norm.shift)

    def forward(self, x: Tensor) -> Tensor:
        """Compute rows (..., F)."""
        y = squash(widen(x), self.alpha, self.shift)
        return affine(y, self.weight, self.bias).to(x.dtype)
