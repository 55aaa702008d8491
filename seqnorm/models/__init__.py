"""Models built from the layers and norms of ``seqnorm.nn``; they need only torch."""

from .classifier import TextClassifier
from .embedding import cooccurrence_embedding
from .image_classifier import ImageClassifier
from .language_model import LanguageModel
from .pooling import Pooling
from .series_classifier import SeriesClassifier
from .stylisation import StylisationNet
from .tfidf import TfidfClassifier

__all__ = [
    "ImageClassifier",
    "LanguageModel",
    "Pooling",
    "SeriesClassifier",
    "StylisationNet",
    "TextClassifier",
    "TfidfClassifier",
    "cooccurrence_embedding",
]
