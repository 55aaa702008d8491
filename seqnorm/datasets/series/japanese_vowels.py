"""Japanese Vowels: 640 utterances of 9 speakers, from the package aeon.

Each series has 12 coefficients of a linear prediction analysis in 7 to 29 steps, and its label is
the speaker. The published parts have 270 series to train on, 30 of each speaker, and 370 to test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..fetching import Package
from .containers import SeriesFile
from .ts import read_ts

_FOLDER = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_"
_MEMBERS = {"train": f"{_FOLDER}TRAIN.ts", "test": f"{_FOLDER}TEST.ts"}


@dataclass(frozen=True)
class SeriesSource:
    """A named corpus of labelled series that a package holds in .ts files, one for each part."""

    name: str
    package: Package
    members: Mapping[str, str]
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

    def read(self, contents: Mapping[str, bytes]) -> dict[str, SeriesFile]:
        """Return the parts out of the contents of the members."""
        return {
            part: read_ts(Path(PurePosixPath(name).name), contents[name].decode("utf-8"), "label")
            for part, name in self.members.items()
        }


JAPANESE_VOWELS = SeriesSource(
    name="japanese_vowels",
    package=Package(
        name="aeon",
        version="1.6.0",
        filename="aeon-1.6.0-py3-none-any.whl",
        sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        members={
            _MEMBERS["train"]: "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
            _MEMBERS["test"]: "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
        },
    ),
    members=_MEMBERS,
    description="two Japanese vowels spoken by 9 men, 12 coefficients in 7 to 29 steps",
    licence=(
        "the package is BSD-3-Clause; its copy states no licence for the recordings, which must "
        "therefore not be redistributed."
    ),
    citation=(
        "M. Kudo, J. Toyama and M. Shimbo, Multidimensional Curve Classification Using "
        "Passing-Through Regions, Pattern Recognition Letters 20(11-13), 1103-1111, 1999"
    ),
)
