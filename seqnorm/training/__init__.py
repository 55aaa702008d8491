"""Training with Lightning; ``seqnorm --help`` lists the commands.

It needs further packages: ``pip install 'seqnorm[train]'``.
"""

from seqnorm.extra import explained

with explained("seqnorm.training"):
    from .callbacks.norm_statistics import NormStatistics
    from .callbacks.reestimate import ReestimateStatistics
    from .callbacks.remedies import FreezeStatistics, RenormalizationSchedule
    from .data.classification import TextData
    from .data.language import LanguageData
    from .data.series import SeriesData, SeriesTargetData
    from .distributed import SyncBatchNorm
    from .tasks.classification import TextClassification
    from .tasks.language import LanguageModelling
    from .tasks.series import SeriesClassification, SeriesRegression

__all__ = [
    "FreezeStatistics",
    "LanguageData",
    "LanguageModelling",
    "NormStatistics",
    "ReestimateStatistics",
    "RenormalizationSchedule",
    "SeriesClassification",
    "SeriesData",
    "SeriesRegression",
    "SeriesTargetData",
    "SyncBatchNorm",
    "TextClassification",
    "TextData",
]
