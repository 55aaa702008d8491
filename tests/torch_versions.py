"""What tests need of torch that torch 2.3 has not."""

from __future__ import annotations

import pytest
import torch

from seqnorm.nn.backends.cpu.traced import COMPILES

needs_compiler = pytest.mark.skipif(
    not COMPILES, reason=f"torch.compile of torch {torch.__version__} cannot trace it: 2.4 can"
)
needs_transforms = pytest.mark.skipif(
    not COMPILES, reason=f"torch.func of torch {torch.__version__} reads no sizes: that of 2.4 does"
)
