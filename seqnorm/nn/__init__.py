"""The library proper: norms, recurrences, statistics. Needs torch alone."""

from .backends import backend
from .cell_layers import GRUCell, LSTMCell
from .layers import GRU, LSTM
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .presets import PRESETS, preset
from .reestimate import reestimate_statistics
from .reporting import Report, report
from .scheme import Norm, NormScheme
from .tables import RunningTable

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
