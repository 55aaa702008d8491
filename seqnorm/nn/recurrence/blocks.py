"""Products with block-diagonal matrices.

Axes: n rows, heads, H units in, K = H / heads of each head, R rows of the matrix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def block_linear(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Return the product of a block-diagonal matrix with each row of x (n, H), plus the bias.

    Args:
        x: (n, H), H / heads neighbouring units for each head.
        weight: (R, K), the blocks without the zeros around them. Its rows are those of one gate
            after the other, each with the same number of rows for every head, and as many gates as
            R / H. Unit k of a gate reads the units of x of its own head.
        bias: (R,), or ``None``.
        heads: number of blocks; with one, this is an ordinary linear map.
    """
    if heads == 1:
        return F.linear(x, weight, bias)
    n, size = x.shape[0], weight.shape[1]
    gates = len(weight) // (heads * size)
    # (heads, n, K) times (heads, K, gates * K), one product for each head
    blocks = weight.reshape(gates, heads, size, size).permute(1, 3, 0, 2)
    parts = x.reshape(n, heads, size).transpose(0, 1)
    product = torch.bmm(parts, blocks.reshape(heads, size, gates * size))
    found = product.reshape(heads, n, gates, size).permute(1, 2, 0, 3).reshape(n, len(weight))
    return found if bias is None else found + bias
