"""The base class of studies: a question, the runs that answer it, and the reading of their table.

A study is a dataclass; its fields are its configuration, ``configs/studies/<name>.yaml``. One run
is one setting of the factors, including the seed, and depends on no run but those that chose its
learning rate. Runs can therefore be made in any order and on several machines.

Every study is a folder: ``study`` makes the runs, ``measures`` evaluates a trained network,
``figures`` draws the table, ``verdict`` computes the numbers of the verdict, and ``text.md.j2``
holds the verdict and the captions, written by hand. Studies on texts share ``texts``.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jinja2

from . import evidence
from .evidence import Claim, Finding, Ground
from .table import Setting, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outcome:
    """Results of one run."""

    values: Mapping[str, float]  # a number for each of the study's measures that applies
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)  # (x, y)
    files: Mapping[str, bytes] = field(default_factory=dict)  # small files to keep beside the table


class Text(NamedTuple):
    """Text of a study: its headline, verdict and their claims, and captions of figures by name.

    The headline is one plain sentence, and the first figure shows just what it says.
    """

    headline: str
    verdict: str
    claims: list[Claim]
    captions: dict[str, str]


class Study(ABC):
    """A question about a limitation of BatchNorm, and the way it is answered."""

    name: ClassVar[str]  # of its folder, its configuration and its results
    title: ClassVar[str]  # the limitation in a few words
    question: ClassVar[str]
    # Columns that tell runs apart, "stage" and "seed" among them. The stage is "tune" for runs that
    # choose a learning rate and "run" for reported ones.
    factors: ClassVar[tuple[str, ...]]
    measures: ClassVar[tuple[str, ...]]  # columns with the numbers that a run measured
    # Fields that say how many runs there are, which may change while a table grows.
    extent: ClassVar[tuple[str, ...]] = ("seeds",)

    @abstractmethod
    def settings(self, done: Table) -> Iterator[Setting]:
        """Yield all runs that can be made now, in a fixed order, including those in ``done``.

        A run that depends on others (on those that choose its learning rate) is left out until
        these are in ``done``.
        """

    @abstractmethod
    def run(self, setting: Setting) -> Outcome:
        """Make one run. All random numbers in it follow from the setting."""

    @abstractmethod
    def figures(self, table: Table) -> dict[str, Figure]:
        """Draw the table. Missing runs leave gaps."""

    @abstractmethod
    def findings(self, table: Table) -> list[Finding]:
        """Return the numbers of the table with their uncertainty, the most important first."""

    @abstractmethod
    def quantities(self, table: Table) -> Mapping[str, Any]:
        """Return the numbers and functions that the text of the study uses, by name."""

    def template(self) -> str:
        """Return the text of the study, ``text.md.j2`` beside its class.

        The sections "headline" and "verdict" have claims, which are written by hand. Every other
        section is the caption of a figure.
        """
        return Path(inspect.getfile(type(self))).with_name("text.md.j2").read_text(encoding="utf-8")

    def text(self, table: Table) -> Text:
        """Fill the table's numbers into the text and mark claims that it does not bear out."""
        claims: list[Claim] = []

        def claim(text: str, *grounds: list[Ground]) -> str:
            claims.append(Claim(text, *grounds))
            return str(claims[-1])

        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
        names = {**vars(evidence), **self.quantities(table), "study": self, "claim": claim}
        filled = environment.from_string(self.template()).render(names)
        _, *parts = re.split(r"^## (\w+)\n", filled, flags=re.MULTILINE)
        sections = {
            # Lines of a paragraph are joined.
            name: re.sub(r"(?<!\n)\n(?!\n)", " ", part.strip())
            for name, part in zip(parts[::2], parts[1::2])
        }
        return Text(sections.pop("headline"), sections.pop("verdict"), claims, sections)
