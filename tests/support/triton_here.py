"""The kernels in Triton under its interpreter, which tests/conftest.py chooses without a GPU."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import pytest
from torch_versions import TORCH

import seqnorm
from seqnorm import Norm, NormScheme

# The interpreter of earlier versions cannot read numbers with NumPy 2.4.
LEAST = (3, 9)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
VERSION = (0, 0)
with suppress(PackageNotFoundError):
    major, minor = version("triton").split(".")[:2]
    VERSION = int(major), int(minor)
needs_triton = pytest.mark.skipif(
    not INTERPRETED or VERSION < LEAST or TORCH < (2, 4),
    reason="it needs triton 3.9, torch 2.4, and a machine without a GPU to interpret its kernels",
)

# The preset "layer" of a LiGRU has no norm in the recurrence, which is what the kernels compute.
_LAYER_OF_LIGRU = NormScheme(input=Norm("layer"), hidden=Norm("layer"), bias_ih=None)


def scheme_inside(name: str | None, cell: str) -> NormScheme | None:
    """Return the scheme of a name with its norm in the recurrence, ``None`` without a norm."""
    if name in (None, "none"):
        return None
    return _LAYER_OF_LIGRU if (name, cell) == ("layer", "LiGRU") else seqnorm.preset(name, cell)
