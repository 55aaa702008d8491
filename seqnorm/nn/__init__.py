"""The library proper: norms, recurrences, statistics. Needs torch alone."""

from .backends import available_backends, use_backend
from .layers.cells import (
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
from .layers.long_sequences import compute_in_chunks
from .norms.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .norms.exchange import convert_norm
from .norms.images import LayerNorm2d
from .norms.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .norms.sequence import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .norms.style import AdaptiveInstanceNorm2d, ConditionalInstanceNorm2d, style_statistics
from .norms.sync import convert_sync_batchnorm, revert_sync_batchnorm
from .recurrence.presets import preset
from .recurrence.scheme import Norm, NormScheme
from .recurrence.step import PRESETS
from .statistics.masks import size_mask
from .statistics.reestimate import batch_statistics, reestimate_statistics, update_bn
from .statistics.report import Report, report
from .statistics.running_table import RunningTable
from .statistics_sets import SiteSets, StatisticsSet, statistics_set

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
    "available_backends",
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
    "use_backend",
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
