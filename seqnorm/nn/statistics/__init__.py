"""Means and variances: over which elements, under which mask, and the running ones."""

from .reestimate import batch_statistics as batch_statistics
from .report import Report as Report
from .running_table import RunningTable as RunningTable
