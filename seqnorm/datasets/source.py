"""What a corpus file states: where the texts come from, under what licence, how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqnorm.datasets.documents import Row
from seqnorm.datasets.fetching import Package


@dataclass(frozen=True)
class CorpusSource:
    """A corpus by name.

    `members` are the files of `package` that it needs; `read` takes their contents by path inside
    the package and returns the rows of "train" and, where one was published, "test".
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
        """Source, licence and citation, as they are shown to whoever fetches the corpus."""
        return (
            f"{self.name}: {self.description}, from the package {self.package.name} "
            f"{self.package.version}.\nLicence: {self.licence}\nCite: {self.citation}"
        )
