"""Models built from the recurrent layers of ``seqnorm.nn``; needs torch alone."""

from .classifier import TextClassifier
from .embedding import cooccurrence_embedding
from .pooling import Pooling

__all__ = ["Pooling", "TextClassifier", "cooccurrence_embedding"]
