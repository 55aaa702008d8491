"""Models built from the recurrent layers and the norms of ``seqnorm.nn``; needs torch alone."""

from .classifier import TextClassifier
from .embedding import cooccurrence_embedding
from .pooling import Pooling
from .stylisation import StylisationNet

__all__ = ["Pooling", "StylisationNet", "TextClassifier", "cooccurrence_embedding"]
