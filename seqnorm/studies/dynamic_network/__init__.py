"""Networks unrolled to another length for every batch: steps whose statistics rest on few rows."""

from .study import DynamicNetwork

__all__ = ["DynamicNetwork"]
