"""Training with Lightning; ``python train.py --help`` shows what it can do.

Needs more than torch: ``pip install 'seqnorm[train]'``.
"""

from seqnorm.extra import explained

with explained("seqnorm.training"):
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
