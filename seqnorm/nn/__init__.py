"""The library proper: norms, recurrences, statistics. Needs torch alone."""

from .backends import backend
from .batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .cell import PRESETS
from .cells import (
    GRU,
    LSTM,
    RNN,
    SLSTM,
    GRUCell,
    IndRNN,
    IndRNNCell,
    LiGRU,
    LiGRUCell,
    LSTMCell,
    RNNCell,
    SLSTMCell,
)
from .images import LayerNorm2d
from .instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .long_sequences import compute_in_chunks
from .masks import size_mask
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .presets import preset
from .reestimate import batch_statistics, reestimate_statistics, update_bn
from .reporting import Report, report
from .scheme import Norm, NormScheme
from .sets import SiteSets, StatisticsSet, statistics_set
from .style import AdaptiveInstanceNorm2d, ConditionalInstanceNorm2d, style_statistics
from .swap import convert_norm
from .synchronisation import convert_sync_batchnorm, revert_sync_batchnorm
from .tables import RunningTable

__all__ = [
    "PRESETS",
    "AdaptiveInstanceNorm2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "ConditionalInstanceNorm2d",
    "GroupNorm",
    "InstanceNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LayerNorm2d",
    "Norm",
    "NormScheme",
    "RMSNorm",
    "Report",
    "RunningTable",
    "SiteSets",
    "StatisticsSet",
    "backend",
    "batch_statistics",
    "compute_in_chunks",
    "convert_norm",
    "convert_sync_batchnorm",
    "preset",
    "reestimate_statistics",
    "report",
    "revert_sync_batchnorm",
    "size_mask",
    "statistics_set",
    "style_statistics",
    "update_bn",
]
# Spelled out, as in ``cells``: mypy follows no ``__all__ += cells.__all__``.
__all__ += [
    "GRU",
    "LSTM",
    "RNN",
    "SLSTM",
    "GRUCell",
    "IndRNN",
    "IndRNNCell",
    "LSTMCell",
    "LiGRU",
    "LiGRUCell",
    "RNNCell",
    "SLSTMCell",
]
