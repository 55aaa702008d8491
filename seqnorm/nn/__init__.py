"""The library proper: norms, recurrences, statistics. Needs torch alone."""

from . import cells
from .backends import backend
from .cell import PRESETS
from .cells import *  # noqa: F403  the names of all cells
from .norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from .presets import preset
from .reestimate import batch_statistics, reestimate_statistics
from .reporting import Report, report
from .scheme import Norm, NormScheme
from .tables import RunningTable

__all__ = [
    "PRESETS",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Norm",
    "NormScheme",
    "RMSNorm",
    "Report",
    "RunningTable",
    "backend",
    "batch_statistics",
    "preset",
    "reestimate_statistics",
    "report",
]
__all__ += cells.__all__
