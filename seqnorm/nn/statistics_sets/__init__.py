"""The set S of elements that share a mean in a norm, in words, as a mask and as a picture."""

from .description import SiteSets as SiteSets
from .description import StatisticsSet as StatisticsSet
from .lookup import statistics_set as statistics_set
from .mixed import MixedSets as MixedSets
