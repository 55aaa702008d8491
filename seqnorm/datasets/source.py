"""The facts about a corpus: where its texts come from, their licence, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqnorm.datasets.documents import Row
from seqnorm.datasets.fetching import Package


@dataclass(frozen=True)
class CorpusSource:
    """A named corpus.

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
    def version(self) -> str:
        return self.package.version

    @property
    def sha256(self) -> str:
        return self.package.sha256

    @property
    def notice(self) -> str:
        """Source, licence and citation, as shown to users who fetch the corpus."""
        return (
            f"{self.name}: {self.description}, from the package {self.package.name} "
            f"{self.package.version}.\nLicence: {self.licence}\nCite: {self.citation}"
        )
