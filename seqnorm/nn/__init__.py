"""Norms, recurrences and statistics, which depend on torch alone."""

from .backends import available_backends, use_backend
from .layers.cell import RecurrentCell
from .layers.cells import (
    GRU,
    LSTM,
    RNN,
    SLSTM,
    DreamerGRUCell,
    GRUCell,
    IndRNN,
    IndRNNCell,
    LiGRU,
    LiGRUCell,
    LSTMCell,
    RNNCell,
    SLSTMCell,
)
from .layers.chunks import compute_in_chunks
from .layers.explain import explain
from .layers.layer import RecurrentLayer
from .layers.quantisation import quantize_
from .layers.replacement import convert_rnn
from .layers.resets import steps_since_reset
from .layers.streams import Stream
from .layers.weight_standardisation import weight_standardisation
from .norms.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .norms.conditional import ConditionalBatchNorm2d
from .norms.dynamic import DynamicErf, DynamicTanh
from .norms.evaluation import fit_eval_norm
from .norms.exchange import convert_norm
from .norms.images import LayerNorm2d
from .norms.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .norms.mixtures import BatchInstanceNorm2d, SwitchableNorm2d
from .norms.power import PowerNorm
from .norms.sequence import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .norms.sequence_batch import BatchNorm
from .norms.style import AdaptiveInstanceNorm2d, ConditionalInstanceNorm2d
from .norms.sync import convert_sync_batchnorm, revert_sync_batchnorm
from .recurrence.presets import preset
from .recurrence.scheme import Norm, NormScheme
from .recurrence.step import PRESETS, Step
from .statistics.freezing import freeze_statistics
from .statistics.masks import size_mask
from .statistics.reestimate import reestimate_statistics, update_bn
from .statistics.renormalization import renormalization_limits, set_renormalization
from .statistics.report import report
from .statistics_sets import statistics_set

__all__ = [
    "GRU",
    "LSTM",
    "PRESETS",
    "RNN",
    "SLSTM",
    "AdaptiveInstanceNorm2d",
    "BatchInstanceNorm2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "ConditionalBatchNorm2d",
    "ConditionalInstanceNorm2d",
    "DreamerGRUCell",
    "DynamicErf",
    "DynamicTanh",
    "GRUCell",
    "GroupNorm",
    "IndRNN",
    "IndRNNCell",
    "InstanceNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LSTMCell",
    "LayerNorm",
    "LayerNorm2d",
    "LiGRU",
    "LiGRUCell",
    "Norm",
    "NormScheme",
    "PowerNorm",
    "RMSNorm",
    "RNNCell",
    "RecurrentCell",
    "RecurrentLayer",
    "SLSTMCell",
    "Step",
    "Stream",
    "SwitchableNorm2d",
    "available_backends",
    "compute_in_chunks",
    "convert_norm",
    "convert_rnn",
    "convert_sync_batchnorm",
    "explain",
    "fit_eval_norm",
    "freeze_statistics",
    "preset",
    "quantize_",
    "reestimate_statistics",
    "renormalization_limits",
    "report",
    "revert_sync_batchnorm",
    "set_renormalization",
    "size_mask",
    "statistics_set",
    "steps_since_reset",
    "update_bn",
    "use_backend",
    "weight_standardisation",
]
