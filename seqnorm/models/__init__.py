"""Models built from the layers of ``seqnorm.nn``; needs torch alone."""

from .classifier import TextClassifier
from .embedding import cooccurrence_embedding
from .image_classifier import ImageClassifier
from .pooling import Pooling

__all__ = ["ImageClassifier", "Pooling", "TextClassifier", "cooccurrence_embedding"]
