"""Networks unrolled to another length for every batch, with steps that rest on few rows."""

from .study import DynamicNetwork

__all__ = ["DynamicNetwork"]
