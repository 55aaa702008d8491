"""Training with Lightning; ``python train.py --help`` shows what it can do.

Needs more than torch: ``pip install 'seqnorm[train]'``.
"""

try:
    import lightning  # noqa: F401  asked for first, so that its absence is explained
except ModuleNotFoundError as error:
    if error.name != "lightning":
        raise
    raise ModuleNotFoundError(
        "seqnorm.training needs lightning and more: pip install 'seqnorm[train]'"
    ) from error

from .averaging import ReestimateStatistics
from .classification import TextClassification
from .distributed import SyncBatchNorm
from .language import LanguageModelling
from .language_data import LanguageData
from .statistics import NormStatistics
from .text import TextData

__all__ = [
    "LanguageData",
    "LanguageModelling",
    "NormStatistics",
    "ReestimateStatistics",
    "SyncBatchNorm",
    "TextClassification",
    "TextData",
]
