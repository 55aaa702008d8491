"""Features of torch that tests use and that an older version lacks or names differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqnorm.nn.backends.cpu.traced import COMPILES

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])

needs_compiler = pytest.mark.skipif(
    not COMPILES, reason=f"torch.compile of torch {torch.__version__} cannot trace it: 2.4 can"
)
needs_transforms = pytest.mark.skipif(
    not COMPILES, reason=f"torch.func of torch {torch.__version__} reads no sizes: that of 2.4 does"
)


def opcheck(operator: Any, arguments: Any) -> None:
    """Call ``torch.library.opcheck``, which torch 2.3 has only among its own tests."""
    if TORCH >= (2, 4):
        torch.library.opcheck(operator, arguments)
    else:
        from torch.testing._internal.optests import opcheck as check

        check(operator, arguments)


def rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Call torch's RMSNorm over the last dimensions, or compute its equation in older versions."""
    if TORCH >= (2, 4):
        return F.rms_norm(x, shape, weight, eps=eps)
    dims = tuple(range(-len(shape), 0))
    y = x * torch.rsqrt(x.square().mean(dims, keepdim=True) + eps)
    return y if weight is None else y * weight
