"""What BatchNorm does wrong, and where it does not, shown on real data: one file a limitation.

``python -m seqnorm.studies NAME`` makes the runs of a study, draws its figures and prints its
verdict; ``python -m seqnorm.studies report`` makes a page of all of them.
"""

from seqnorm.studies.evidence import Finding, Interval, interval, paired
from seqnorm.studies.study import Outcome, Picture, Study
from seqnorm.studies.table import Table

__all__ = ["Finding", "Interval", "Outcome", "Picture", "Study", "Table", "interval", "paired"]
