"""What a study is: a question, the runs that answer it, and what is read off their table.

A study is a dataclass; its fields are its configuration, ``configs/studies/<name>.yaml``. One run
is one setting of its factors, the seed among them, and knows of no other run: runs may be made in
any order, by several processes or machines, and be merged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .evidence import Finding
from .table import Setting, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outcome:
    """What one run measured.

    Attributes:
        values: one number for each of the study's measures that applies; others stay empty.
        curves: by name, points (x, y), as a loss over steps.
        files: by name, contents of small files to keep beside the table, pictures for instance.
    """

    values: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure of a study.

    Attributes:
        name: of its file, without the ending.
        figure: made by ``seqnorm.studies.figures.figure``.
        caption: what is seen, for a reader who has never heard of the subject.
    """

    name: str
    figure: Figure
    caption: str


class Study(ABC):
    """A question about a limitation of BatchNorm, and how it is answered.

    Attributes:
        name: of its file, its configuration and its results.
        title: the limitation, in a few words.
        question: what it asks, in a sentence or two.
        factors: columns of the table that tell runs apart; "seed" is one.
        measures: columns with what a run measured.
        extent: fields of the configuration that say how many runs there are, not what one is; they
            may be changed between calls that write into one table.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    factors: ClassVar[tuple[str, ...]]
    measures: ClassVar[tuple[str, ...]]
    extent: ClassVar[tuple[str, ...]] = ("seeds",)

    @abstractmethod
    def settings(self, done: Table) -> Iterator[Setting]:
        """All runs that can be made now, in a fixed order, those in ``done`` too.

        What depends on other runs (a learning rate on the runs it is chosen by) is left out until
        these are in ``done``.
        """

    @abstractmethod
    def run(self, setting: Setting) -> Outcome:
        """Makes one run. Everything random in it follows from the setting."""

    def cost(self, setting: Setting) -> float:
        """How long a run takes beside other runs, in any unit, to tell the time left."""
        return 1.0

    @abstractmethod
    def pictures(self, table: Table) -> list[Picture]:
        """Draws the table; runs that are missing leave gaps, they break nothing."""

    @abstractmethod
    def findings(self, table: Table) -> list[Finding]:
        """What the table says, each finding with its uncertainty."""

    @abstractmethod
    def verdict(self, table: Table) -> str:
        """The answer to the question, computed from the table, in a few sentences."""
