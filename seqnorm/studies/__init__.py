"""The limitations of BatchNorm and their remedies, on real data; each study is a folder.

``seqnorm study NAME`` makes the runs of a study, draws its figures and prints its
verdict. ``seqnorm study report`` makes a page of all of them.
"""

from seqnorm.studies.evidence import Finding, Seeds, interval
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Table

__all__ = ["Finding", "Outcome", "Seeds", "Study", "Table", "interval"]
