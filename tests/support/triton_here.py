"""The kernels in Triton under its interpreter, which tests/conftest.py chooses without a GPU."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import pytest
from torch_versions import TORCH

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
