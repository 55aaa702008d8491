"""A corpus: its documents, their classes and parts, its source, and the report of its cleaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from .fetching import Package


class DatasetError(ValueError):
    """Raised for data that cannot be used; the message says where they are and what to do."""


def too_few_classes(classes: Sequence[str]) -> str:
    """Return the error for a training part of one class, or of no class."""
    has = f"only the class {classes[0]!r}" if classes else "no class"
    return f"the training part has {has}, and at least two classes are needed"


class Row(NamedTuple):
    """One labelled text, as read from a file."""

    text: str
    label: str


class Documents(NamedTuple):
    """Parallel tuples: `labels[i]` is the class of `texts[i]`, an index into `Corpus.classes`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class PartReport:
    """Counts of one part; each document is counted under the first reason that applies.

    If `kept == read`, the reasons count documents that were found and not dropped.
    """

    read: int
    empty: int
    two_labels: int
    held_out: int
    duplicate: int
    kept: int

    @property
    def in_words(self) -> str:
        """The documents read and kept, and the reasons for which the others were dropped."""
        kept = f"{self.kept:,} of {self.read:,} documents are left after cleaning"
        reasons = {
            "empty": self.empty,
            "text under two labels": self.two_labels,
            "text of the validation or test part": self.held_out,
            "repeated text": self.duplicate,
        }
        dropped = [f"{reason}: {count:,}" for reason, count in reasons.items() if count]
        return f"{kept} ({', '.join(dropped)})" if self.kept < self.read else kept


@dataclass(frozen=True)
class CleaningReport:
    """The results of cleaning for each part; `print(report)` shows them as a table."""

    parts: Mapping[str, PartReport]
    split_off: int = 0

    @property
    def dropped(self) -> int:
        """The number of documents dropped from all parts."""
        return sum(part.read - part.kept for part in self.parts.values())

    def __str__(self) -> str:
        rows = [["part", "read", "empty", "two labels", "held out", "duplicate", "kept"]]
        for name, part in self.parts.items():
            rows.append([name, *(f"{count:,}" for count in asdict(part).values())])
        first, *others = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join([name.ljust(first), *map(str.rjust, counts, others)])
            for name, *counts in rows
        ]
        if self.split_off:
            lines.append(
                f"no test part was published: {self.split_off:,} of the kept documents became it"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, cleaned by the rule of `seqnorm.datasets.cleaning`.

    `test` is empty for your own files without a test part; `validation` is None unless the files
    contain one (split it off `train` with `split_validation`). `language` is a tag such as "en" or
    "zh", or "und" if it is not known. `notice` gives source, licence and citation. `columns` are
    the columns of texts and labels that were read, if the corpus has columns. `told` is a line
    about the fold that is the test part, or "".
    """

    name: str
    classes: tuple[str, ...]
    train: Documents
    test: Documents
    validation: Documents | None
    language: str
    report: CleaningReport
    notice: str = ""
    columns: tuple[str, str] | None = None
    told: str = ""


@dataclass(frozen=True)
class CorpusSource:
    """A named corpus that a package holds: its files, its licence, and how it is read.

    `members` are the files of `package` that it needs. `read` takes their contents, by path inside
    the package, and returns the rows of "train" and, if it was published, of "test".
    """

    name: str
    package: Package
    members: tuple[str, ...]
    read: Callable[[Mapping[str, bytes]], dict[str, list[Row]]]
    language: str
    description: str
    licence: str
    citation: str

    @property
    def notice(self) -> str:
        """Source, licence and citation, as shown to users who fetch the corpus."""
        return (
            f"{self.name}: {self.description}, from the package {self.package.name} "
            f"{self.package.version}.\nLicence: {self.licence}\nCite: {self.citation}"
        )
