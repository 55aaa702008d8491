"""Weights of other libraries, loaded when ``seqnorm.load_weights`` is asked for."""

from .layout import names_of_sources
from .transfer import load_weights, to_weights

__all__ = ["load_weights", "names_of_sources", "to_weights"]
