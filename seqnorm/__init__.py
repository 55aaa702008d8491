"""Normalised recurrent networks for PyTorch.

>>> import torch, seqnorm
>>> lstm = seqnorm.LSTM(16, 32, batch_first=True, bidirectional=True, norm="layer")
>>> output, (h, c) = lstm(torch.randn(3, 10, 16), lengths=[10, 4, 7])
>>> output.shape
torch.Size([3, 10, 64])
"""

from .nn.backends import backend
from .nn.cell_layers import GRUCell, LSTMCell
from .nn.layers import GRU, LSTM
from .nn.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .nn.presets import PRESETS, preset
from .nn.reestimate import reestimate_statistics
from .nn.report import Report, report
from .nn.scheme import Norm, NormScheme
from .nn.tables import RunningTable
from .version import VERSION

__all__ = [
    "GRU",
    "LSTM",
    "PRESETS",
    "BatchNorm",
    "GRUCell",
    "GroupNorm",
    "InstanceNorm",
    "LSTMCell",
    "LayerNorm",
    "Norm",
    "NormScheme",
    "RMSNorm",
    "Report",
    "RunningTable",
    "backend",
    "preset",
    "reestimate_statistics",
    "report",
]
__version__ = VERSION
