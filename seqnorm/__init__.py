"""Normalised recurrent networks for PyTorch.

>>> import torch, seqnorm
>>> lstm = seqnorm.LSTM(16, 32, batch_first=True, bidirectional=True, norm="layer")
>>> output, (h, c) = lstm(torch.randn(3, 10, 16), lengths=[10, 4, 7])
>>> output.shape
torch.Size([3, 10, 64])
"""

from __future__ import annotations

from . import nn
from . import testing as testing
from .nn import *  # noqa: F403  the public names are those of the library proper
from .version import __version__ as __version__

__all__: list[str] = []
__all__ += nn.__all__
