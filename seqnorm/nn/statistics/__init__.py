"""Means and variances of sets of elements under masks, and running statistics."""

from .reestimate import batch_statistics as batch_statistics
from .report import Report as Report
from .running_table import RunningTable as RunningTable
