"""Small batches give noisy statistics: the first of BatchNorm's limitations."""

from .study import SmallBatch

__all__ = ["SmallBatch"]
