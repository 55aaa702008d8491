"""Four limitations of BatchNorm, tested on real data; each study is a folder.

``python -m seqnorm.studies NAME`` makes the runs of a study, draws its figures and prints its
verdict. ``python -m seqnorm.studies report`` makes a page of all of them.
"""

from seqnorm.studies.evidence import Finding, Seeds, interval
from seqnorm.studies.study import Outcome, Study
from seqnorm.studies.table import Table

__all__ = ["Finding", "Outcome", "Seeds", "Study", "Table", "interval"]
